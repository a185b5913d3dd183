# private-apt.sh: apt-get over Debian suites that the system's own sources need not name. Sourced by setup and unpack-debs.
# Sources, lists and cache lie in a folder of the caller's. The mirror is the one that the system's sources name. apt
# checks the signatures, but not the age of a suite's release file, because a mirror may be a snapshot.

# open_suites STATE SUITE…: prepares the folder STATE and reads the suites' package lists.
open_suites() {
  local state=$1 suite mirror; shift
  local suites="$(. /etc/os-release && echo "$VERSION_CODENAME")|stable|oldstable|testing|sid|unstable"
  mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suites="^($suites)\$" '$1 ~ suites && $2 == "main" { print $3; exit }')
  [ -n "$mirror" ] || { echo "the system's apt sources name no mirror of Debian's main archive" >&2; return 1; }
  mkdir -p "$state"/{lists,archives}/partial
  for suite; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
  done > "$state/sources.list"
  private_apt "$state" update
}

# private_apt STATE ARGUMENT…: apt-get with what open_suites prepared; only its errors are shown.
private_apt() {
  local state=$1; shift
  apt-get -q -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$state/lists" -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" \
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o APT::Update::Error-Mode=any \
    -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o APT::Keep-Downloaded-Packages=true -o DPkg::Post-Invoke= -o APT::Update::Post-Invoke= "$@" > /dev/null
}
