//! The CustomResourceDefinitions that this server ships: the four sandbox kinds.
//!
//! To everything else they are definitions like those that users make. What is special about them is all here: where
//! their schemas come from, the older version that is served beside them, and one column more.

mod alpha;
mod manifest;
mod state;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::{ColumnSource, PrinterColumn, ResourceDefinition};

/// A definition that this server ships.
pub(crate) struct Shipped {
    /// `sandboxes.agents.x-k8s.io`.
    pub(crate) name: String,
    names: &'static manifest::Names,
    /// The kinds that it makes, and those served beside it.
    pub(crate) definitions: Vec<ResourceDefinition>,
}

impl Shipped {
    /// The object as a user would apply it. Made each time it is wanted, which is seldom: it is large.
    pub(crate) fn manifest(&self) -> Value {
        manifest::of(self.names)
    }

    /// The older version, as another entry of its `versions`.
    pub(crate) fn older(&self) -> Value {
        alpha::version(self.names)
    }
}

static SHIPPED: LazyLock<Vec<Shipped>> = LazyLock::new(|| {
    let mut shipped: Vec<Shipped> = manifest::KINDS.iter().map(ship).collect();
    share_pods(&mut shipped);
    shipped
});

/// Templates have the same Pods as Sandboxes: they are kept in memory once.
fn share_pods(shipped: &mut [Shipped]) {
    let pods = |kind: &str| manifest::schema(kind).pointer("/properties/spec/properties/podTemplate").cloned();
    if pods("Sandbox") != pods("SandboxTemplate") {
        return;
    }
    let sandboxes = Arc::clone(&shipped[0].definitions[0].schema);
    let kinds = shipped.iter_mut().flat_map(|shipped| &mut shipped.definitions);
    for kind in kinds.filter(|kind| kind.kind == "SandboxTemplate") {
        kind.schema = Arc::new(kind.schema.sharing(&["spec", "podTemplate"], &sandboxes));
    }
}

/// All of them.
pub(super) fn shipped() -> &'static [Shipped] {
    &SHIPPED
}

fn ship(names: &'static manifest::Names) -> Shipped {
    let mut definitions = crate::crds::kinds(&manifest::of(names), false).expect("shipped schemas are structural");
    for definition in &mut definitions {
        definition.printer_columns.extend(state_column(&definition.kind));
    }
    definitions.push(alpha::beside(&definitions[0], names));
    Shipped { name: names.crd_name(), names, definitions }
}

/// The state in one word, with `-o wide`: the columns shown always are upstream's.
fn state_column(kind: &str) -> Option<PrinterColumn> {
    (kind == "Sandbox").then(|| PrinterColumn {
        name: "State".to_owned(),
        column_type: "string".to_owned(),
        format: String::new(),
        description:
            "What the sandbox is doing: Provisioning, PreProvisioned, Claimed, Running, Suspending, Suspended, Resuming, \
             or how it ended."
                .to_owned(),
        priority: 1,
        source: ColumnSource::Computed(|object, _| Value::from(state::of(object))),
    })
}

/// The schema of `metadata`, which every kind has.
pub(crate) fn object_metadata() -> &'static Arc<crate::schema::Node> {
    super::core_types().get(super::catalog::OBJECT_META).expect("embedded schemas have object metadata")
}
