# What every entry point needs first: a Swift toolchain and the system's libraries. Sourced, safe to repeat.

# Says how to get Swift, in two lines, and stops.
need_swift() {
  if command -v swift >/dev/null 2>&1; then return; fi
  echo "Swift 6.1 or later is missing. Get it with swiftly (https://www.swift.org/install/linux), or on Debian 13 with" >&2
  echo "  apt-get install swiftlang   - or run inside the container image swift:6.1 - and start again." >&2
  exit 1
}

# need_packages NAME...: installs those Debian packages that are not there, and prints which.
need_packages() {
  local missing=() name
  for name in "$@"; do
    if ! dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed'; then missing+=("$name"); fi
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "These packages (Debian's names) are missing, and there is no apt-get: ${missing[*]}" >&2
    exit 1
  fi
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
  echo "Installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_libraries() {
  need_packages pkg-config libopenblas-dev libdnnl-dev libpng-dev libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
}

# Builds the programs; quiet unless it fails.
build_programs() {
  echo "Building (the first time takes a minute or two) ..."
  local log
  log=$(mktemp)
  if ! swift build -c release >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    exit 1
  fi
  rm -f "$log"
}
