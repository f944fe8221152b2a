//! The server as a whole: what it is built from, and what every handler reaches for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use atoll_rt::{CancellationToken, TaskGroup};
use atoll_stdx::{Clock, Hint};
use atoll_store::{Store, StoreError};
use jiff::Timestamp;

use crate::accounts::{self, AccountTokens, Keys};
use crate::admission::{self, Quotas};
use crate::authn::{Identity, TokenIdentity, Tokens};
use crate::definitions::ResourceDefinition;
use crate::metrics::{Metrics, WriteCount};
use crate::node_proxy::NodeProxy;
use crate::rbac::Rbac;
use crate::registry::{Kinds, Registry, RegistryError};
use crate::service::{ApiService, InFlight, InProcessService};
use crate::status::ApiError;
use crate::{collector, crds, namespaces, rbac};

/// What a server is built from.
pub struct ApiServerConfig {
    /// Where objects are kept.
    pub store: Store,
    /// The kinds that are served.
    pub definitions: Vec<ResourceDefinition>,
    /// The bearer tokens that are good.
    pub tokens: Vec<TokenIdentity>,
    /// Tells the time of creations and deletions.
    pub clock: Arc<dyn Clock>,
    /// Runs the garbage collector.
    pub group: TaskGroup,
}

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Two definitions claim one path, or a definition lacks something.
    #[error("the table of kinds is wrong")]
    Registry(#[from] RegistryError),
    /// The first namespaces, definitions, roles or service accounts cannot be written.
    #[error("cannot make the first namespaces, definitions and roles: {0}")]
    Bootstrap(ApiError),
    /// The store cannot be watched.
    #[error("cannot watch the store")]
    Store(#[from] StoreError),
}

impl Hint for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Registry(_) | Self::Bootstrap(_) => None,
        }
    }
}

/// A Kubernetes API server. Cloning shares it.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    kinds: Kinds,
    tokens: Tokens,
    account_tokens: AccountTokens,
    rbac: Rbac,
    quotas: Quotas,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    in_flight: InFlight,
    node_proxy: OnceLock<Arc<dyn NodeProxy>>,
    stopping: CancellationToken,
}

impl ApiServer {
    /// Builds the server, makes what always exists (namespaces, roles, service accounts), and starts what works behind it.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(config: ApiServerConfig) -> Result<Self, BuildError> {
        let account_tokens = AccountTokens::new(Keys::load(&config.store).await?);
        let rbac = Rbac::new(&config.store)?;
        let (shipped, compiled) = config.definitions.into_iter().partition(|it| it.defined_by.is_some());
        let inner = Inner {
            store: config.store,
            kinds: Kinds::new(compiled)?,
            tokens: Tokens::new(config.tokens),
            account_tokens,
            rbac,
            quotas: Quotas::default(),
            clock: config.clock,
            metrics: Metrics::default(),
            in_flight: InFlight::default(),
            node_proxy: OnceLock::new(),
            stopping: config.group.token(),
        };
        let server = Self { inner: Arc::new(inner) };
        crds::load(&server, shipped).await.map_err(BuildError::Bootstrap)?;
        namespaces::bootstrap(&server).await.map_err(BuildError::Bootstrap)?;
        crds::start(&server, &config.group)?;
        rbac::bootstrap(&server).await.map_err(BuildError::Bootstrap)?;
        rbac::start_aggregation(&server, &config.group).await.map_err(BuildError::Bootstrap)?;
        accounts::start_first(&server, &config.group).await.map_err(BuildError::Bootstrap)?;
        admission::start_quotas(&server, &config.group);
        collector::start(&server, &config.group)?;
        Ok(server)
    }

    /// The service for listeners: authenticates by client certificate or bearer token.
    #[must_use]
    pub fn service(&self) -> ApiService {
        ApiService::new(self.clone())
    }

    /// The service for a component of this process, under an identity of its own.
    #[must_use]
    pub fn in_process(&self, identity: Identity) -> InProcessService {
        InProcessService::new(self.clone(), Some(identity))
    }

    /// The service for clients of this process that put an [`Identity`] into each request's extensions themselves.
    #[must_use]
    pub fn in_process_by_extension(&self) -> InProcessService {
        InProcessService::new(self.clone(), None)
    }

    /// How many writes each identity has made: by user, verb and resource (with its subresource).
    #[must_use]
    pub fn write_counts(&self) -> BTreeMap<WriteCount, u64> {
        self.inner.metrics.writes()
    }

    /// Says how the nodes of Pods are reached. They are clients of this server, and so come after it; until then what
    /// is for them is answered 503. Only the first call counts.
    pub fn connect_nodes(&self, proxy: Arc<dyn NodeProxy>) {
        let _the_first_stays = self.inner.node_proxy.set(proxy);
    }

    pub(crate) fn node_proxy(&self) -> Option<Arc<dyn NodeProxy>> {
        self.inner.node_proxy.get().cloned()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The kinds as they are now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        self.inner.kinds.current()
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        &self.inner.kinds
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    pub(crate) fn account_tokens(&self) -> &AccountTokens {
        &self.inner.account_tokens
    }

    pub(crate) fn rbac(&self) -> &Rbac {
        &self.inner.rbac
    }

    pub(crate) fn quotas(&self) -> &Quotas {
        &self.inner.quotas
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.inner.in_flight
    }

    /// Cancelled when watches are to end.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.inner.stopping.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        let milliseconds = i64::try_from(self.inner.clock.now_unix_ms()).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").field("store", self.store()).finish_non_exhaustive()
    }
}
