//! The four patches.

use http::StatusCode;
use serde_json::Value;

use crate::definitions::Origin;
use crate::patch::{self, PatchError};
use crate::payload::{Document, Encoding, media_type};
use crate::reply::Reply;
use crate::request::{WriteOptions, invalid_option};
use crate::schema::Reason;
use crate::status::ApiError;
use crate::writes::Proposal;

use super::Call;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// How a patch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl Call {
    pub(super) fn patch_kind(&self) -> Result<PatchKind, ApiError> {
        let custom = self.resource.definition.strategy.origin == Origin::Custom;
        match media_type(&self.headers) {
            Some(JSON_PATCH) => Ok(PatchKind::Json),
            Some(MERGE_PATCH) => Ok(PatchKind::Merge),
            Some(STRATEGIC_PATCH) if !custom => Ok(PatchKind::Strategic),
            Some(APPLY_PATCH) => Ok(PatchKind::Apply),
            _ if custom => Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH])),
            _ => Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH])),
        }
    }

    pub(super) async fn patch(&self) -> Result<Reply, ApiError> {
        let options = WriteOptions::parse(&self.query, self.user_agent(), "PatchOptions")?;
        let kind = self.patch_kind()?;
        if kind == PatchKind::Apply {
            return self.apply(&options).await;
        }
        if options.force.is_some() {
            let message = "Forbidden: may not be specified for non-apply patch";
            return Err(invalid_option("PatchOptions", Reason::FieldValueForbidden, "force", message));
        }
        let document = Document::parse(&self.body, Encoding::Json)?;
        let write = self.write(&options);
        let change = |old: &Value| {
            // The last attempt's count: an earlier one may have seen another object.
            self.notes.take();
            let mut object = self.patched(kind, old, &document.value)?;
            self.fit(&mut object)?;
            write.decode(&mut object, &document.duplicates)?;
            Ok(Proposal::untracked(object))
        };
        let written = write.update(self.name(), change).await?;
        Ok(self.written(StatusCode::OK, &written))
    }

    /// The object that a patch makes of another.
    pub(super) fn patched(&self, kind: PatchKind, old: &Value, patch: &Value) -> Result<Value, ApiError> {
        let patched = match kind {
            PatchKind::Json => patch::json_patch(old, patch),
            PatchKind::Strategic => patch::strategic_merge_patch(old, patch, &self.resource.definition.schema),
            PatchKind::Merge | PatchKind::Apply => Ok(patch::merge_patch(old, patch)),
        };
        let object = patched.map_err(Self::patch_error)?;
        if object.is_object() { Ok(object) } else { Err(ApiError::bad_request("the patched object is no object")) }
    }

    fn patch_error(error: PatchError) -> ApiError {
        match error {
            PatchError::Malformed(message) => ApiError::bad_request(message),
            // A kube-apiserver does not say either which operation it was.
            PatchError::DoesNotApply(_) => ApiError::patch_does_not_apply(),
        }
    }

    async fn apply(&self, options: &WriteOptions) -> Result<Reply, ApiError> {
        if !options.manager_given {
            let message = "Required value: is required for apply patch";
            return Err(invalid_option("PatchOptions", Reason::FieldValueRequired, "fieldManager", message));
        }
        // JSON is YAML, and its own parser is the faster one.
        let encoding = if self.body.trim_ascii_start().starts_with(b"{") { Encoding::Json } else { Encoding::Yaml };
        let mut document = Document::parse_object(&self.body, encoding)?;
        self.check_applied_type(&document.value)?;
        self.fit(&mut document.value)?;
        let write = self.write(options);
        // Unknown fields are not dropped: nobody can come to own them, so the apply is refused.
        write.report(&[], &document.duplicates)?;
        let (written, made) = write.apply(self.name(), &document.value, options.force == Some(true)).await?;
        let code = if made { StatusCode::CREATED } else { StatusCode::OK };
        Ok(self.written(code, &written))
    }

    /// What is applied says what it is.
    fn check_applied_type(&self, configuration: &Value) -> Result<(), ApiError> {
        let definition = &self.resource.definition;
        let text = |name: &str| configuration[name].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version == definition.api_version() && kind == definition.kind {
            return Ok(());
        }
        let separator = if api_version.contains('/') { "" } else { "/" };
        Err(ApiError::bad_request(format!("invalid object type: {separator}{api_version}, Kind={kind}")))
    }
}
