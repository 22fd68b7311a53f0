"""Changes the configuration on disk N times, each time live before the next: weights and subsets of reviews, and hosts that
come and go. Prints how long a change took to be seen by the gateway's generation counter."""

import os
import re
import statistics
import sys
import time
import urllib.request

config, count, admin = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def generation():
    text = urllib.request.urlopen(f"{admin}/metrics", timeout=5).read().decode()
    return int(float(re.search(r"^meshgate_config_generation (\S+)", text, re.M).group(1)))


def replace(name, text):
    """As editors and kubelet do: a new file takes the place of the old one."""
    path = os.path.join(config, name)
    with open(f"{path}.new", "w") as file:
        file.write(text)
    os.rename(f"{path}.new", path)


REVIEWS = open(os.path.join(config, "reviews.yaml")).read()


def reviews(step):
    weight = step % 101
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  gateways: [mesh, bookinfo-internal]
  http:
  - route:
    - destination: {{ host: reviews, subset: v{1 + step % 3} }}
      weight: {weight}
    - destination: {{ host: reviews, subset: v{1 + (step + 1) % 3} }}
      weight: {100 - weight}
"""


def host(step):
    return f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: extra-{step % 7}
spec:
  hosts: [extra-{step % 7}.example.com]
  gateways: [bookinfo-gateway]
  http:
  - directResponse: {{ status: 200, body: {{ string: "{step}" }} }}
"""


took = []
for step in range(count):
    before, started = generation(), time.monotonic()
    name = f"extra-{step % 7}.yaml"
    if step % 3 == 0:
        replace("reviews.yaml", reviews(step))
    elif step % 3 == 1:
        replace(name, host(step))
    elif os.path.exists(os.path.join(config, name)):
        os.remove(os.path.join(config, name))
    else:
        replace(name, host(step))
    while generation() == before:
        if time.monotonic() - started > 10:
            sys.exit(f"change {step} ({name}) was not live within 10 s")
        time.sleep(0.001)
    took.append((time.monotonic() - started) * 1000)
replace("reviews.yaml", REVIEWS)
took.sort()
print(f"{count} changes: live after {statistics.median(took):.1f} ms (median), {took[int(len(took) * 0.99)]:.1f} ms (p99), {took[-1]:.1f} ms (slowest)")
