//! Extension providers that decide about requests: whom an AuthorizationPolicy with action CUSTOM names.

use std::sync::Arc;
use std::time::Duration;

use super::Context;
use super::findings::nearest;
use crate::api::{AuthorizationPolicy, ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider, RequestBodyInCheck};
use crate::diag;
use crate::model::{
    AuthorizerProtocol, BodyInCheck, DestinationRef, ExternalAuthorizer, HttpCheck, NameMatch, UpstreamProtocol,
};
use crate::world::Entry;

/// Where a policy names it.
const FIELD: &str = "spec.provider.name";
/// For an answer, where nobody says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Of what is refused because nobody can be asked, where nobody says otherwise.
const STATUS_ON_ERROR: u16 = 403;

impl Context<'_> {
    /// None: nobody can be asked, and what the policy matches is denied.
    pub(super) fn external_authorizer(
        &mut self,
        entry: &Entry<AuthorizationPolicy>,
        name: &str,
    ) -> Option<Arc<ExternalAuthorizer>> {
        let providers = &self.world.mesh().config.extension_providers;
        let Some(provider) = providers.iter().find(|provider| provider.name == name) else {
            let help = nearest(name, providers.iter().map(|provider| provider.name.as_str()));
            let help = help.or_else(|| Some("define it in `extensionProviders` of the mesh's settings".to_owned()));
            let message = format!("there is no extension provider `{name}`; what the policy matches is denied");
            self.findings.report(diag::PROVIDER_UNKNOWN, entry, FIELD, message, help);
            return None;
        };
        let ExtensionProvider { envoy_ext_authz_http, envoy_ext_authz_grpc, .. } = provider;
        let authorizer = match (envoy_ext_authz_http, envoy_ext_authz_grpc) {
            (Some(http), _) => self.asked_by_http(entry, http),
            (None, Some(grpc)) => self.asked_by_grpc(entry, grpc),
            (None, None) => {
                let message = format!("`{name}` does not decide about requests; what the policy matches is denied");
                let help = "it needs `envoyExtAuthzHttp` or `envoyExtAuthzGrpc`".to_owned();
                self.findings.report(diag::PROVIDER_UNKNOWN, entry, FIELD, message, Some(help));
                return None;
            }
        };
        Some(Arc::new(authorizer))
    }

    fn asked_by_http(&mut self, entry: &Entry<AuthorizationPolicy>, http: &ExtAuthzHttp) -> ExternalAuthorizer {
        let names = |list: &[String]| list.iter().map(|name| NameMatch::read(name)).collect::<Vec<_>>();
        let told = if http.include_request_headers_in_check.is_empty() {
            &http.include_headers_in_check
        } else {
            &http.include_request_headers_in_check
        };
        let added = http.include_additional_headers_in_check.iter();
        let check = HttpCheck {
            path_prefix: http.path_prefix.clone().unwrap_or_default(),
            told: names(told),
            added: added.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
            upstream: names(&http.headers_to_upstream_on_allow),
            refusal: names(&http.headers_to_downstream_on_deny),
            response: names(&http.headers_to_downstream_on_allow),
        };
        ExternalAuthorizer {
            destination: self.authorizers_place(entry, &http.service, http.port),
            protocol: AuthorizerProtocol::Http(check),
            timeout: http.timeout.map_or(TIMEOUT, |timeout| timeout.get()),
            fail_open: http.fail_open.unwrap_or_default(),
            status_on_error: status(http.status_on_error.as_deref()),
            body: body(http.include_request_body_in_check),
        }
    }

    fn asked_by_grpc(&mut self, entry: &Entry<AuthorizationPolicy>, grpc: &ExtAuthzGrpc) -> ExternalAuthorizer {
        let destination = self.authorizers_place(entry, &grpc.service, grpc.port);
        if let DestinationRef::Known(key) = &destination
            && self.destinations.get(key).is_some_and(|one| one.protocol != UpstreamProtocol::Http2)
        {
            let message = format!(
                "the provider speaks gRPC, and port {} of `{}` does not say that it does; it cannot be asked",
                grpc.port, grpc.service
            );
            let help = "name the port `grpc` or `http2`, or give it such an `appProtocol`".to_owned();
            self.findings.report(diag::DESTINATION_NOT_BUILT, entry, FIELD, message, Some(help));
        }
        ExternalAuthorizer {
            destination,
            protocol: AuthorizerProtocol::Grpc,
            timeout: grpc.timeout.map_or(TIMEOUT, |timeout| timeout.get()),
            fail_open: grpc.fail_open.unwrap_or_default(),
            status_on_error: status(grpc.status_on_error.as_deref()),
            body: body(grpc.include_request_body_in_check),
        }
    }

    /// `service`: `HOST` or `NAMESPACE/HOST`, which is that namespace's own, whoever else may see it.
    fn authorizers_place(&mut self, entry: &Entry<AuthorizationPolicy>, service: &str, port: u32) -> DestinationRef {
        let (namespace, host) = match service.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host.to_ascii_lowercase()),
            None => (None, service.to_ascii_lowercase()),
        };
        let unknown = DestinationRef::Unknown(format!("outbound|{port}||{host}").into());
        let found = match namespace {
            Some(namespace) => self.service_of(namespace, &host),
            None => self.service(&host),
        };
        let Some(found) = found else {
            let of = namespace.map_or_else(String::new, |namespace| format!(" of namespace `{namespace}`"));
            let message = format!(
                "the provider is at `{host}`, and no Service or ServiceEntry{of} is called so; it cannot be asked"
            );
            self.findings.report_host(diag::DESTINATION_HOST_UNKNOWN, entry, FIELD, message, &host);
            return unknown;
        };
        let Some(found_port) = u16::try_from(port).ok().and_then(|port| found.port(port)) else {
            let message =
                format!("the provider is at port {port} of `{host}`, which has no such port; it cannot be asked");
            self.findings.report(diag::DESTINATION_PORT_UNKNOWN, entry, FIELD, message, None);
            return unknown;
        };
        self.default_destination(found, found_port)
    }
}

fn status(written: Option<&str>) -> u16 {
    let status = written.and_then(|text| text.trim().parse().ok());
    status.filter(|status| (200..=599).contains(status)).unwrap_or(STATUS_ON_ERROR)
}

fn body(settings: Option<RequestBodyInCheck>) -> Option<BodyInCheck> {
    let settings = settings?;
    let limit = settings.max_request_bytes.filter(|limit| *limit > 0)?;
    let is = |flag: Option<bool>| flag.unwrap_or_default();
    Some(BodyInCheck { limit, partial: is(settings.allow_partial_message), bytes: is(settings.pack_as_bytes) })
}
