//! A key service that is measured: every call's time and outcome.

use std::sync::Arc;

use async_trait::async_trait;
use domicile_crypto::{DataKey, KeyContext, KeyInfo, KeyService};
use domicile_telemetry::metrics;
use domicile_types::Result;
use zeroize::Zeroizing;

/// Measures the calls of the service within.
pub struct Measured(pub Arc<dyn KeyService>);

#[async_trait]
impl KeyService for Measured {
    async fn generate_data_key(&self, context: &KeyContext) -> Result<DataKey> {
        metrics::kms("generate_data_key", self.0.generate_data_key(context)).await
    }

    async fn wrap(&self, context: &KeyContext, plain: &[u8]) -> Result<Vec<u8>> {
        metrics::kms("wrap", self.0.wrap(context, plain)).await
    }

    async fn unwrap(&self, context: &KeyContext, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        metrics::kms("unwrap", self.0.unwrap(context, wrapped)).await
    }

    fn describe(&self) -> KeyInfo {
        self.0.describe()
    }

    async fn health(&self) -> Result<()> {
        metrics::kms("health", self.0.health()).await
    }
}
