// The page of bookinfo while pods are replaced, until it is interrupted; see tests/cluster/tutorial.sh.
//
// Failed is what the edge answers: no answer, or a status other than 200. Inside of the page the services call each other without
// the mesh, through kube-proxy alone; where such a call fails the page says so and is 200 all the same. That is counted, too, and
// is nothing that an edge can do anything about.
import http from 'k6/http';
import { check } from 'k6';
import { Counter } from 'k6/metrics';

const incomplete = new Counter('incomplete');

export const options = {
  scenarios: { page: { executor: 'constant-vus', vus: Number(__ENV.VUS || 4), duration: '30m', gracefulStop: '10s' } },
  summaryTrendStats: ['med', 'p(99)', 'max'],
  thresholds: { http_req_failed: ['rate==0'], checks: ['rate==1'] },
};

export default function () {
  // Every other one ends its connection: new ones are what goes wrong when a pod is new or gone.
  const headers = __ITER % 2 === 0 ? { Connection: 'close' } : {};
  const response = http.get(`${__ENV.BASE}/productpage`, { headers, timeout: '10s' });
  check(response, { 'page is 200 and whole': (r) => r.status === 200 && String(r.body).includes('</html>') });
  if (__ITER === 0 && response.status === 200) {
    console.log('first page');
  }
  if (String(response.body).includes('currently unavailable')) {
    incomplete.add(1);
  }
}

export function handleSummary(data) {
  const value = (metric, key) => (data.metrics[metric] ? data.metrics[metric].values[key] : 0);
  const requests = value('http_reqs', 'count');
  const failed = Math.max(value('http_req_failed', 'passes'), value('checks', 'fails'));
  const line = [
    `${requests} requests`,
    `${failed} failed`,
    `${value('incomplete', 'count')} pages that lack a part for a call between services failed`,
    `median ${value('http_req_duration', 'med').toFixed(1)} ms`,
    `p99 ${value('http_req_duration', 'p(99)').toFixed(1)} ms`,
    `longest ${value('http_req_duration', 'max').toFixed(0)} ms`,
  ].join(', ');
  return { stdout: `${line}\n`, [__ENV.SUMMARY]: JSON.stringify({ requests, failed, incomplete: value('incomplete', 'count') }) };
}
