//! The server as its clients see it: in process, through kube-rs, and through kubectl over TLS.

mod it {
    mod access;
    mod accounts;
    mod admission;
    mod alpha;
    mod changes;
    mod clients;
    mod collection;
    mod crash;
    mod crds;
    mod crds_refused;
    mod deletion;
    mod differential;
    mod discovery;
    mod kubectl;
    mod languages;
    mod limits;
    mod lists;
    mod namespaces;
    mod objects;
    mod roles;
    mod served;
    mod support;
    mod watches;
}
