//! What makes a struct a Kubernetes kind: its names, its metadata, and `apiVersion` and `kind` on the wire.

/// Makes a struct with the fields `metadata`, `spec` and perhaps `status: Option<_>` a namespaced kind.
macro_rules! namespaced_kind {
    ($kind:ident, $api_version:literal, $group:expr, $plural:literal $(, $status:ident)?) => {
        impl k8s_openapi::Resource for $kind {
            const API_VERSION: &'static str = $api_version;
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($kind);
            const VERSION: &'static str = $crate::VERSION;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::NamespaceResourceScope;
        }

        impl k8s_openapi::ListableResource for $kind {
            const LIST_KIND: &'static str = concat!(stringify!($kind), "List");
        }

        impl k8s_openapi::Metadata for $kind {
            type Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;

                let mut object = serializer.serialize_map(None)?;
                object.serialize_entry("apiVersion", <Self as k8s_openapi::Resource>::API_VERSION)?;
                object.serialize_entry("kind", <Self as k8s_openapi::Resource>::KIND)?;
                object.serialize_entry("metadata", &self.metadata)?;
                object.serialize_entry("spec", &self.spec)?;
                $(
                    if let Some(status) = &self.$status {
                        object.serialize_entry("status", status)?;
                    }
                )?
                object.end()
            }
        }
    };
}

pub(crate) use namespaced_kind;
