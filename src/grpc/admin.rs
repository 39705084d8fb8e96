use tonic::{Request, Response};

use super::Reply;
use crate::answer::Generators;
use crate::config::LimitsConfig;
use crate::encoder::Encoders;
use crate::generator::GeneratorInfo;
use crate::proto;

/// AdminService.
pub struct Admin {
    /// Loaded encoders.
    pub encoders: Encoders,
    /// Loaded generators.
    pub generators: Generators,
    /// Limits in force.
    pub limits: LimitsConfig,
    /// Schema version of the store.
    pub schema_version: u32,
}

fn generator_out(info: &GeneratorInfo) -> proto::Model {
    proto::Model {
        id: info.id.clone(),
        kind: proto::ModelKind::Generator as i32,
        revision: info.revision.clone(),
        execution_provider: info.execution_provider.to_owned(),
        precision: info.precision.clone(),
        max_tokens: info.context_tokens,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl proto::admin_service_server::AdminService for Admin {
    async fn get_server_info(
        &self,
        _: Request<proto::GetServerInfoRequest>,
    ) -> Reply<proto::GetServerInfoResponse> {
        let models = self.encoders.iter().map(|encoder| {
            let info = encoder.info();
            proto::Model {
                id: info.id.clone(),
                kind: proto::ModelKind::Encoder as i32,
                revision: info.revision.clone(),
                execution_provider: info.execution_provider.to_owned(),
                dimensions: info.dimensions,
                max_tokens: info.max_tokens,
                precision: info.precision.to_owned(),
                pooling: super::convert::pooling(info.pooling) as i32,
                normalize: info.normalize,
                supports_static: info.has_static,
                prompt_names: info.prompts.clone(),
                default_prompt_name: info.default_prompt.clone().unwrap_or_default(),
            }
        });
        Ok(Response::new(proto::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("TROVE_COMMIT").unwrap_or_default().to_owned(),
            schema_version: self.schema_version,
            models: models
                .chain(self.generators.iter().map(|generator| generator_out(generator.info())))
                .collect(),
            limits: Some(proto::Limits {
                max_batch_size: self.limits.max_batch_size as u32,
                max_message_bytes: self.limits.max_message_bytes as u64,
                max_concurrent_requests: self.limits.max_concurrent_requests as u32,
                max_document_bytes: self.limits.max_document_bytes as u64,
                max_text_bytes: self.limits.max_text_bytes as u64,
            }),
        }))
    }
}
