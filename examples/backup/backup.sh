# Names of copies: the file, a dot, the day.

name_of_daily() {
  base=$(basename "$1")
  echo "${base%.*}.$2.daily"
}

name_of_weekly() {
  base=$(basename "$1")
  echo "${base%.*}.$2.weekly"
}
