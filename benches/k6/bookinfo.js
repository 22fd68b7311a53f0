// Bookinfo through the gateway: people who read the page over http and https, and clients of the API.
//
//   bash benches/k6/run.sh            starts everything and runs this
//   k6 run -e BASE=http://localhost:8080 -e TLS_BASE=https://localhost:8443 benches/k6/bookinfo.js
import http from 'k6/http';
import { check } from 'k6';

const BASE = __ENV.BASE || 'http://localhost:8080';
const TLS_BASE = __ENV.TLS_BASE || 'https://localhost:8443';
const DURATION = __ENV.DURATION || '20s';
const VUS = Number(__ENV.VUS || 8);

const users = (exec, share) => ({
  executor: 'constant-vus', exec, vus: Math.max(1, Math.round(VUS * share)), duration: DURATION, gracefulStop: '10s',
});

export const options = {
  insecureSkipTLSVerify: true,
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
  scenarios: {
    page: users('page', 0.25),
    page_tls: users('pageTls', 0.25),
    api: users('api', 0.5),
  },
  thresholds: {
    http_req_failed: ['rate==0'],
    checks: ['rate==1'],
    'http_req_duration{scenario:page}': ['p(95)<500'],
    'http_req_duration{scenario:page_tls}': ['p(95)<500'],
    'http_req_duration{scenario:api}': ['p(95)<250'],
  },
};

function readPage(base) {
  const response = http.get(`${base}/productpage`);
  check(response, {
    'page is 200': (r) => r.status === 200,
    'page has details and reviews': (r) => r.body.includes('Reviews served by') && r.body.includes('The Comedy of Errors'),
    'page came through the gateway': (r) => r.headers['Server'] === 'istio-envoy',
  });
}

export function page() { readPage(BASE); }
export function pageTls() { readPage(TLS_BASE); }

export function api() {
  for (const path of ['/api/v1/products', '/api/v1/products/0', '/api/v1/products/0/reviews', '/api/v1/products/0/ratings']) {
    const response = http.get(`${BASE}${path}`, { tags: { name: path } });
    check(response, { 'api is 200 and JSON': (r) => r.status === 200 && r.json() !== null });
  }
}

// One line: passed or not, and the figures.
export function handleSummary(data) {
  const value = (metric, key) => (data.metrics[metric] ? data.metrics[metric].values[key] : 0);
  const failed = Object.values(data.metrics).flatMap((m) => Object.entries(m.thresholds || {}).filter(([, t]) => !t.ok).map(([name]) => name));
  const line = [
    failed.length === 0 ? 'k6 bookinfo: PASS' : `k6 bookinfo: FAIL (${failed.join('; ')})`,
    `${value('http_reqs', 'count')} requests`,
    `${value('http_reqs', 'rate').toFixed(0)}/s`,
    `failed ${(value('http_req_failed', 'rate') * 100).toFixed(3)} %`,
    `checks ${(value('checks', 'rate') * 100).toFixed(2)} %`,
    `median ${value('http_req_duration', 'med').toFixed(1)} ms`,
    `p95 ${value('http_req_duration', 'p(95)').toFixed(1)} ms`,
    `p99 ${value('http_req_duration', 'p(99)').toFixed(1)} ms`,
  ].join(', ');
  return { stdout: `${line}\n`, ...(__ENV.SUMMARY ? { [__ENV.SUMMARY]: JSON.stringify(data) } : {}) };
}
