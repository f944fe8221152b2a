//! The RuntimeClasses that this plane's node has handlers for.

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::failure::{Exit, Failure};

/// Name and handler. `auto` leaves the choice to what a Pod declares of its risk.
const CLASSES: [(&str, &str); 3] = [("native", "native"), ("gvisor", "runsc"), ("auto", "auto")];
const CONFLICT: u16 = 409;

/// Makes those that are not there; what a person has made of one stays.
pub(super) async fn offer(client: &kube::Client) -> Result<(), Failure> {
    let api: Api<RuntimeClass> = Api::all(client.clone());
    for (name, handler) in CLASSES {
        let class = RuntimeClass {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            handler: handler.to_owned(),
            ..RuntimeClass::default()
        };
        match api.create(&PostParams::default(), &class).await {
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
            Err(error) => return Err(Failure::because(Exit::State, "cannot offer the isolation tiers", &error)),
            Ok(_) => {}
        }
    }
    Ok(())
}
