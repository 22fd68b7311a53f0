//! One key of a set, and the algorithms of signatures (RFC 7518 and RFC 8037).

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// How a signature is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

use Algorithm::{EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};

impl Algorithm {
    /// None: it is not supported; `none` never is.
    #[must_use]
    pub fn of(name: &str) -> Option<Algorithm> {
        Some(match name {
            "HS256" => Hs256,
            "HS384" => Hs384,
            "HS512" => Hs512,
            "RS256" => Rs256,
            "RS384" => Rs384,
            "RS512" => Rs512,
            "PS256" => Ps256,
            "PS384" => Ps384,
            "PS512" => Ps512,
            "ES256" => Es256,
            "ES384" => Es384,
            "ES512" => Es512,
            "EdDSA" => EdDsa,
            _ => return None,
        })
    }
}

/// A key of an issuer.
pub(super) struct Key {
    pub id: Option<String>,
    /// The only one that it is for.
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// The algorithm of the curve, and an uncompressed point.
    Ec(Algorithm, Vec<u8>),
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Of a JSON Web Key.
    pub fn read(value: &Value) -> Result<Key, String> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let bytes = |name: &str| {
            let encoded = text(name).ok_or_else(|| format!("it has no `{name}`"))?;
            let decoded = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('='));
            decoded.map_err(|_| format!("`{name}` is not base64url"))
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(Algorithm::of(name).ok_or_else(|| format!("the algorithm {name} is not supported"))?),
        };
        if text("use").is_some_and(|usage| usage != "sig") {
            return Err("it is not for signatures".to_owned());
        }
        let material = match (text("kty"), text("crv")) {
            (Some("RSA"), _) => Material::Rsa(bytes("n")?, bytes("e")?),
            (Some("EC"), Some(curve)) => ec(curve, &bytes("x")?, &bytes("y")?)?,
            (Some("OKP"), Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            (Some("oct"), _) => Material::Secret(bytes("k")?),
            (Some(kind), _) => return Err(format!("keys of type {kind} on this curve are not supported")),
            (None, _) => return Err("it has no `kty`".to_owned()),
        };
        Ok(Key { id: text("kid").map(str::to_owned), algorithm, material })
    }

    /// Whether signatures of this kind can be of it.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match &self.material {
            Material::Rsa(..) => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::Ec(own, _) => *own == algorithm,
            Material::Ed25519(_) => algorithm == EdDsa,
            Material::Secret(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
        };
        kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is of it. The algorithm must fit.
    pub fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), Unspecified> {
        match &self.material {
            Material::Rsa(n, e) => {
                let parameters = match algorithm {
                    Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return Err(Unspecified),
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            Material::Ec(own, point) => {
                let parameters = match own {
                    Es256 => &signature::ECDSA_P256_SHA256_FIXED,
                    Es384 => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(parameters, point).verify(message, signature)
            }
            Material::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature),
            Material::Secret(secret) => {
                let algorithm = match algorithm {
                    Hs256 => hmac::HMAC_SHA256,
                    Hs384 => hmac::HMAC_SHA384,
                    _ => hmac::HMAC_SHA512,
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), message, signature)
            }
        }
    }
}

/// Coordinates may come without their leading zeros.
fn ec(curve: &str, x: &[u8], y: &[u8]) -> Result<Material, String> {
    let (algorithm, length) = match curve {
        "P-256" => (Es256, 32_usize),
        "P-384" => (Es384, 48),
        "P-521" => (Es512, 66),
        _ => return Err(format!("the curve {curve} is not supported")),
    };
    let mut point = vec![4];
    for coordinate in [x, y] {
        let missing = length.checked_sub(coordinate.len()).ok_or("a coordinate is too long")?;
        point.resize(point.len() + missing, 0);
        point.extend_from_slice(coordinate);
    }
    Ok(Material::Ec(algorithm, point))
}
