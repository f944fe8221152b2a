//! The key pair that signs service account tokens. It lies in the store, so that a restored backup honours them too.

use atoll_store::{Expect, PutRequest, Store, StoreError, Value};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use sha2::{Digest, Sha256};

use super::Claims;

/// Not below the registry: no request reaches it.
const STORE_KEY: &str = "/keys/service-account-tokens";
const KEY_ID_BYTES: usize = 16;

/// The key pair.
pub(crate) struct Keys {
    signing: EncodingKey,
    checking: DecodingKey,
    id: String,
}

impl Keys {
    /// The store's key pair, made if there is none.
    pub(crate) async fn load(store: &Store) -> Result<Self, StoreError> {
        if let Some(record) = store.get(STORE_KEY) {
            return Ok(Self::new(&record.value));
        }
        let generated = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = generated.expect("the system has randomness");
        let value = Value::plain(document.as_ref());
        let record = store.put(PutRequest { key: STORE_KEY.to_owned(), value, expect: Expect::Absent }).await?;
        Ok(Self::new(&record.value))
    }

    fn new(pkcs8: &[u8]) -> Self {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new());
        // Checksums guard what is stored.
        let pair = pair.expect("what was stored is a key pair");
        let public = pair.public_key().as_ref();
        Self {
            signing: EncodingKey::from_ec_der(pkcs8),
            checking: DecodingKey::from_ec_der(public),
            id: hex::encode(&Sha256::digest(public)[..KEY_ID_BYTES]),
        }
    }

    pub(super) fn sign(&self, claims: &Claims) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.signing).expect("claims are JSON and the key signs")
    }

    /// The claims, if the signature is good. Times and audiences are not looked at.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.checking, &validation).ok()?.claims;
        (claims.iss == super::ISSUER).then_some(claims)
    }
}
