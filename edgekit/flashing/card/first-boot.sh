#!/bin/sh
# Written by edgekit sdcard. Every step may be cut by a power failure and is simply done again.
set -eu
umask 022
here=$(dirname "$(readlink -f "$0")")
base=/opt/edgekit-runtimes/@RUNTIME@
state=/var/lib/edgekit
as_board() { runuser -u edgekit -- env HOME=$state "$@"; }

if ! id -u edgekit >/dev/null 2>&1; then
  useradd --system --user-group --home-dir $state --no-create-home --shell /usr/sbin/nologin edgekit
fi
for group in video render plugdev; do
  if getent group $group >/dev/null; then usermod -aG $group edgekit; fi
done
install -d -m 0755 -o edgekit -g edgekit /opt/edgekit
install -d -m 0755 /etc/edgekit /etc/edgekit/keys /opt/edgekit-runtimes
install -d -m 0700 -o edgekit -g edgekit $state

# Old or new, never half: written beside it, then renamed.
put() { install -m "$3" "$1" "$2.new"; sync "$2.new"; mv -T "$2.new" "$2"; }

if [ ! -e "$base/runtime.json" ]; then
  rm -rf "$base"
  # picamera2 needs the numpy that it was built with; without picamera2 pip's own serves.
  kind=$(/usr/bin/python3 -I -c 'import importlib.util as u
print("own" if u.find_spec("picamera2") and u.find_spec("numpy") else "pip")')
  sed "s|@HERE@|$here|g" "$here/requirements-$kind.txt" >/run/edgekit-requirements.txt
  /usr/bin/python3 -m venv --system-site-packages --without-pip "$base"
  "$base/bin/python" "$here/wheels/@PIP@/pip" install --quiet --no-input --no-cache-dir --no-index --no-deps \
    --require-hashes --ignore-installed --root-user-action=ignore --disable-pip-version-check \
    -r /run/edgekit-requirements.txt
  found=$("$base/bin/python" -I -c 'import edgekit_device.cli, numpy, cv2; print(edgekit_device.__version__)')
  [ "$found" = "@VERSION@" ]
  sync -f "$base"
  printf '{"runtime": "@RUNTIME@", "schema": 1, "version": "@VERSION@", "wheels": {}}\n' >"$base/runtime.json.new"
  sync "$base/runtime.json.new"
  mv "$base/runtime.json.new" "$base/runtime.json"
fi
ln -sfnT "$base" /opt/edgekit/.new-venv
mv -T /opt/edgekit/.new-venv /opt/edgekit/venv
put "$here/launch" /opt/edgekit/launch 0755
for key in "$here"/keys/*.pub; do put "$key" "/etc/edgekit/keys/$(basename "$key")" 0644; done
[ -e /etc/edgekit/device.toml ] || put "$here/device.toml" /etc/edgekit/device.toml 0644
if [ -e "$here/root.json" ]; then
  install -d -m 0755 /etc/edgekit/updates
  [ -e /etc/edgekit/updates/root.json ] || put "$here/root.json" /etc/edgekit/updates/root.json 0644
fi

if [ ! -e /opt/edgekit/current ]; then
  as_board /opt/edgekit/venv/bin/edgekit-device install "$here/@BUNDLE@" --root /
fi
if [ -d /etc/avahi/services ]; then put "$here/avahi.service" /etc/avahi/services/edgekit.service 0644; fi
install -d -m 0755 /etc/systemd/system
put "$here/edgekit-device.service" /etc/systemd/system/edgekit-device.service 0644
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable --quiet edgekit-device.service
  systemctl start --no-block edgekit-device.service
fi
# Last: whatever fails before it, the board classifies already; the token is good once.
if [ -e "$here/token" ]; then
  [ -e $state/identity/credentials.json ] || as_board /opt/edgekit/venv/bin/edgekit-device enroll - --root / <"$here/token"
  rm -f "$here/token"
  if [ -d /run/systemd/system ]; then systemctl restart --no-block edgekit-device.service; fi
fi
if [ -d /run/systemd/system ]; then systemctl disable --quiet edgekit-first-boot.service; fi
sync
