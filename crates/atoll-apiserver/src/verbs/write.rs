//! create and update.

use http::StatusCode;

use crate::definitions::Facet;
use crate::objects::metadata_text;
use crate::payload::Document;
use crate::reply::Reply;
use crate::request::WriteOptions;
use crate::schema::{Cause, Reason};
use crate::status::ApiError;
use crate::writes::Proposal;

use super::Call;

impl Call {
    pub(super) async fn create(&self) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(&self.query, self.user_agent(), "CreateOptions")?;
        let document = self.object(self.encoding()?)?;
        let write = self.write(&options);
        let mut object = document.value;
        write.decode(&mut object, &document.duplicates)?;
        let written = write.create(object, false).await?;
        Ok(self.written(StatusCode::CREATED, &written))
    }

    pub(super) async fn update(&self) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(&self.query, self.user_agent(), "UpdateOptions")?;
        let mut document = Document::parse_object(&self.body, self.encoding()?)?;
        let named = !metadata_text(&document.value, "name").is_empty();
        self.fit(&mut document.value)?;
        if !named {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                self.name()
            )));
        }
        let write = self.write(&options);
        let mut object = document.value;
        write.decode(&mut object, &document.duplicates)?;
        let strategy = &self.resource.definition.strategy;
        let unconditional = matches!(metadata_text(&object, "resourceVersion"), "" | "0");
        let change = |_old: &serde_json::Value| {
            if unconditional && !strategy.unconditional_update {
                let cause = Cause {
                    reason: Reason::FieldValueInvalid,
                    field: "metadata.resourceVersion".to_owned(),
                    message: "Invalid value: 0: must be specified for an update".to_owned(),
                };
                return Err(ApiError::invalid(&self.resource.about(self.name()), &[cause]));
            }
            Ok(Proposal::untracked(object.clone()))
        };
        match write.update(self.name(), change).await {
            Err(error) if error.reason == "NotFound" && strategy.create_on_update && self.facet() == Facet::Main => {
                let written = write.create(object, false).await?;
                Ok(self.written(StatusCode::CREATED, &written))
            }
            result => Ok(self.written(StatusCode::OK, &result?)),
        }
    }
}
