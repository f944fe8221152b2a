set -e
. ./backup.sh
[ "$(name_of_daily /a/notes.txt 2026-01-02)" = notes.2026-01-02.daily ]
[ "$(name_of_weekly /a/notes.txt 2026-01-02)" = notes.2026-01-02.weekly ]
echo 'all fine'
