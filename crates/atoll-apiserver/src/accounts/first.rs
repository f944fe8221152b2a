//! The account `default`, which every namespace has.

use std::time::Duration;

use atoll_rt::TaskGroup;
use atoll_store::{Event, ListRequest, StoreError, Watch, WatchError};
use serde_json::json;

use crate::definitions::Facet;
use crate::namespaces;
use crate::objects::View;
use crate::request::WriteOptions;
use crate::server::ApiServer;
use crate::status::ApiError;
use crate::writes::{Write, store_error};

const NAME: &str = "default";
/// After a failure, before the next attempt.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Makes the account in every namespace, and starts the task that makes it again where somebody removes it.
pub(crate) async fn start(server: &ApiServer, group: &TaskGroup) -> Result<(), ApiError> {
    let (Some(_), Some(accounts)) = (namespaces::resource(server), server.registry().by_path("v1", "serviceaccounts"))
    else {
        return Ok(());
    };
    let watch = watch(server, &accounts.folder).map_err(|error| store_error(&error))?;
    ensure_everywhere(server).await?;
    let (server, folder, token) = (server.clone(), accounts.folder.clone(), group.token());
    group.spawn("default-accounts", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = run(server, folder, watch) => {}
        }
    });
    Ok(())
}

fn watch(server: &ApiServer, folder: &str) -> Result<Watch, StoreError> {
    server.store().watch(folder, server.store().current_revision())
}

async fn run(server: ApiServer, folder: String, mut removals: Watch) {
    loop {
        let removed = match removals.next().await {
            Ok(event) => namespace_of_removed(&event, &folder),
            Err(WatchError::Closed) => return,
            Err(WatchError::Lagged) => match watch(&server, &folder) {
                Ok(again) => {
                    removals = again;
                    retry(|| ensure_everywhere(&server)).await;
                    None
                }
                Err(error) => {
                    tracing::error!(cause = %atoll_stdx::chain(&error), "service accounts cannot be followed");
                    return;
                }
            },
        };
        if let Some(namespace) = removed {
            retry(|| ensure(&server, &namespace)).await;
        }
    }
}

async fn retry<F: Future<Output = Result<(), ApiError>>>(attempt: impl Fn() -> F) {
    while let Err(error) = attempt().await {
        tracing::warn!(cause = %error, "a default service account cannot be made; trying again");
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

fn namespace_of_removed(event: &Event, folder: &str) -> Option<String> {
    let (namespace, name) = event.record.key.strip_prefix(folder)?.split_once('/')?;
    (event.change == atoll_store::Change::Delete && name == NAME).then(|| namespace.to_owned())
}

async fn ensure_everywhere(server: &ApiServer) -> Result<(), ApiError> {
    let Some(resource) = namespaces::resource(server) else { return Ok(()) };
    let request = ListRequest { prefix: &resource.folder, ..ListRequest::default() };
    let page = server.store().list(&request).map_err(|error| store_error(&error))?;
    let names = page.records.iter().filter_map(|record| record.key.rsplit('/').next());
    futures::future::try_join_all(names.map(|name| ensure(server, name))).await.map(|_| ())
}

/// Makes the account where it is missing and the namespace is there to stay.
pub(crate) async fn ensure(server: &ApiServer, namespace: &str) -> Result<(), ApiError> {
    let (Some(spaces), Some(resource)) =
        (namespaces::resource(server), server.registry().by_path("v1", "serviceaccounts"))
    else {
        return Ok(());
    };
    let stays = server.store().get(&spaces.key(None, namespace)).is_some_and(|it| !View::of(&it, &spaces).deleting);
    if !stays || server.store().get(&resource.key(Some(namespace), NAME)).is_some() {
        return Ok(());
    }
    let options = WriteOptions { manager: "atoll".to_owned(), ..WriteOptions::default() };
    let write = Write {
        server,
        resource: &resource,
        namespace: Some(namespace),
        options: &options,
        facet: Facet::Main,
        now: server.now(),
        admission: None,
    };
    let object = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": NAME, "namespace": namespace },
    });
    // Boxed: making a namespace makes its account, by the same function.
    match Box::pin(write.create(object, false)).await {
        Err(error) if !matches!(error.reason, "AlreadyExists" | "NotFound" | "Forbidden") => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
