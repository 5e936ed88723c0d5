#!/bin/sh
# Written by edgekit sdcard. Makes first-boot.sh run at every boot until it has succeeded once. First word: start or later.
set -eu
here=$(dirname "$(readlink -f "$0")")
cat >/etc/systemd/system/edgekit-first-boot.service.new <<UNIT
[Unit]
Description=EdgeKit: make this board what its card says
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh "$here/first-boot.sh"
# No network yet, no broker yet, power lost: again, until it is done.
Restart=on-failure
RestartSec=20

[Install]
WantedBy=multi-user.target
UNIT
mv /etc/systemd/system/edgekit-first-boot.service.new /etc/systemd/system/edgekit-first-boot.service
systemctl daemon-reload 2>/dev/null || true
systemctl enable edgekit-first-boot.service
sync
if [ "${1:-later}" = start ]; then systemctl start --no-block edgekit-first-boot.service; fi
