//! delete and deletecollection.

use std::sync::Arc;

use atoll_store::{ListRequest, Record};
use http::StatusCode;
use serde_json::Value;

use crate::definitions::Origin;
use crate::objects::{is_deleting, metadata_text};
use crate::payload::{Document, Encoding};
use crate::removal::{self, DeleteOptions};
use crate::reply::{ListReply, Reply};
use crate::status::{ApiError, success};
use crate::writes::{Written, store_error};

use super::Call;

/// Built-in kinds whose deletion is answered with the object instead of a `Status`.
const ANSWERED_WITH_OBJECT: [&str; 4] = ["pods", "services", "persistentvolumeclaims", "serviceaccounts"];

impl Call {
    pub(super) fn delete_options(&self) -> Result<DeleteOptions, ApiError> {
        let body = if self.body.is_empty() {
            Value::Null
        } else {
            Document::parse_object(&self.body, Encoding::of(&self.headers)?)?.value
        };
        if !matches!(body["kind"].as_str(), None | Some("" | "DeleteOptions")) {
            return Err(ApiError::bad_request("the body of a deletion must be of kind DeleteOptions"));
        }
        DeleteOptions::parse(&self.query, &body)
    }

    pub(super) async fn delete(&self) -> Result<Reply, ApiError> {
        let options = self.delete_options()?;
        let written = removal::delete(&self.server, &self.resource, self.namespace(), self.name(), &options).await?;
        let definition = &self.resource.definition;
        let with_object =
            definition.strategy.origin == Origin::Builtin && ANSWERED_WITH_OBJECT.contains(&definition.plural.as_str());
        match &written {
            Written::Removed(record) if !with_object => {
                let object = self.resource.decode(&record.value);
                let status = success(&self.resource.about(self.name()), metadata_text(&object, "uid"));
                Ok(Reply::value(StatusCode::OK, self.form, &status))
            }
            Written::Proposed(object) if !with_object && !is_deleting(object) => {
                let status = success(&self.resource.about(self.name()), metadata_text(object, "uid"));
                Ok(Reply::value(StatusCode::OK, self.form, &status))
            }
            written => Ok(self.written(StatusCode::OK, written)),
        }
    }

    pub(super) async fn delete_collection(&self) -> Result<Reply, ApiError> {
        let options = self.delete_options()?;
        let filter = self.filter()?;
        let prefix = self.resource.prefix(self.namespace());
        let page = self
            .server
            .store()
            .list(&ListRequest { prefix: &prefix, ..ListRequest::default() })
            .map_err(|error| store_error(&error))?;
        let selected: Vec<Arc<Record>> = page.records.into_iter().filter(|record| filter.matches(record)).collect();
        let registry = self.server.registry();
        for record in &selected {
            let Some((_, namespace, name)) = registry.by_key(&record.key) else { continue };
            match removal::delete(&self.server, &self.resource, namespace, name, &options).await {
                Err(error) if error.reason != "NotFound" => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        let list = ListReply {
            resource: &self.resource,
            revision: self.server.store().current_revision(),
            continue_token: None,
            remaining: None,
            now: self.server.now(),
        };
        Ok(list.reply(self.form, &selected))
    }
}
