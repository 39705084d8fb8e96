use std::sync::Arc;

use tonic::{Request, Response};

use super::status::to_status;
use super::{Reply, caller, snapshots};
use crate::answer::Generators;
use crate::catalog::Catalog;
use crate::config::LimitsConfig;
use crate::encoder::{Activation, CrossEncoderInfo, CrossEncoders, Encoders};
use crate::generator::GeneratorInfo;
use crate::proto;

/// AdminService.
pub struct Admin {
    /// Keeps the collections and their snapshots.
    pub catalog: Arc<Catalog>,
    /// Loaded encoders.
    pub encoders: Encoders,
    /// Loaded cross-encoders.
    pub cross_encoders: CrossEncoders,
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

fn cross_encoder_out(info: &CrossEncoderInfo) -> proto::Model {
    let activation = match info.activation {
        Activation::Identity => proto::Activation::Identity,
        Activation::Sigmoid => proto::Activation::Sigmoid,
    };
    proto::Model {
        id: info.id.clone(),
        kind: proto::ModelKind::CrossEncoder as i32,
        revision: info.revision.clone(),
        execution_provider: info.execution_provider.to_owned(),
        precision: info.precision.to_owned(),
        max_tokens: info.max_tokens,
        activation: activation as i32,
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
                activation: proto::Activation::Unspecified as i32,
            }
        });
        Ok(Response::new(proto::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("TROVE_COMMIT").unwrap_or_default().to_owned(),
            schema_version: self.schema_version,
            extraction_version: crate::text::EXTRACTION_VERSION,
            models: models
                .chain(self.cross_encoders.iter().map(|model| cross_encoder_out(model.info())))
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

    async fn create_snapshot(
        &self,
        request: Request<proto::CreateSnapshotRequest>,
    ) -> Reply<proto::CreateSnapshotResponse> {
        let caller = caller(&request).map_err(to_status)?;
        Ok(Response::new(
            snapshots::create(self.catalog.clone(), &caller, request.into_inner())
                .await
                .map_err(to_status)?,
        ))
    }

    async fn list_snapshots(
        &self,
        request: Request<proto::ListSnapshotsRequest>,
    ) -> Reply<proto::ListSnapshotsResponse> {
        Ok(Response::new(
            snapshots::list(self.catalog.clone(), request.into_inner()).await.map_err(to_status)?,
        ))
    }

    async fn verify_snapshot(
        &self,
        request: Request<proto::VerifySnapshotRequest>,
    ) -> Reply<proto::VerifySnapshotResponse> {
        Ok(Response::new(
            snapshots::verify(self.catalog.clone(), request.into_inner()).await.map_err(to_status)?,
        ))
    }

    async fn restore_snapshot(
        &self,
        request: Request<proto::RestoreSnapshotRequest>,
    ) -> Reply<proto::RestoreSnapshotResponse> {
        let caller = caller(&request).map_err(to_status)?;
        Ok(Response::new(
            snapshots::restore(self.catalog.clone(), &caller, request.into_inner())
                .await
                .map_err(to_status)?,
        ))
    }

    async fn delete_snapshot(
        &self,
        request: Request<proto::DeleteSnapshotRequest>,
    ) -> Reply<proto::DeleteSnapshotResponse> {
        Ok(Response::new(
            snapshots::delete(self.catalog.clone(), request.into_inner()).await.map_err(to_status)?,
        ))
    }
}
