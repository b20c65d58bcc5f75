//! Routes, each with its description.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::operation::{Described, Operation};
use crate::http::error::ErrorCode;

/// The texts of a route, and the errors that its handler finds itself. The types of the handler say the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About {
    /// The name of the operation in generated clients.
    pub(crate) id: &'static str,
    /// The effect of a call, in one sentence.
    pub(crate) summary: &'static str,
    /// Further sentences.
    pub(crate) description: &'static str,
    /// The rights in Kubernetes that a call needs.
    pub(crate) rights: &'static str,
    /// The errors besides those of the handler's arguments.
    pub(crate) errors: &'static [ErrorCode],
}

/// The description of a route.
#[derive(Debug)]
pub(crate) struct RouteDescription {
    pub(crate) path: &'static str,
    /// The method in lower case.
    pub(crate) method: &'static str,
    pub(crate) about: About,
    pub(crate) operation: Operation,
}

/// A path, a method, their handler and its description.
pub(crate) struct Route<S> {
    pub(crate) description: RouteDescription,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A GET.
    pub(crate) fn get<H, T, D>(path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, S> + Described<D>,
        T: 'static,
    {
        Self::on((MethodFilter::GET, "get"), path, handler, about)
    }

    /// A POST.
    pub(crate) fn post<H, T, D>(path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, S> + Described<D>,
        T: 'static,
    {
        Self::on((MethodFilter::POST, "post"), path, handler, about)
    }

    /// A PATCH.
    pub(crate) fn patch<H, T, D>(path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, S> + Described<D>,
        T: 'static,
    {
        Self::on((MethodFilter::PATCH, "patch"), path, handler, about)
    }

    /// A DELETE.
    pub(crate) fn delete<H, T, D>(path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, S> + Described<D>,
        T: 'static,
    {
        Self::on((MethodFilter::DELETE, "delete"), path, handler, about)
    }

    fn on<H, T, D>((filter, method): (MethodFilter, &'static str), path: &'static str, handler: H, about: About) -> Self
    where
        H: Handler<T, S> + Described<D>,
        T: 'static,
    {
        let mut operation = H::operation();
        operation.errors.extend(about.errors);
        Self { description: RouteDescription { path, method, about, operation }, handler: on(filter, handler) }
    }
}

/// The router of some routes.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, route| router.route(route.description.path, route.handler))
}
