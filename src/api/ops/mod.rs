//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

use utoipa_axum::router::OpenApiRouter;

use super::Api;

/// The operators' part of the surface.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
}
