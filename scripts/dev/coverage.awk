# From LLVM's lcov export to target/coverage.json, and a table of the files that are run least.
# Fails when less than `goal` percent of the lines are run.

/^SF:/ {
  path = substr($0, 4)
  file = substr(path, length(root) + 1)
  sub(/^src\/\.\.\//, "", file)
  ours = index(path, root) == 1 && file ~ /^(src|workers)\// && file !~ /\/tests\//
  # A file's own tests stand at its end.
  last = 0; number = 0
  while ((getline text < path) > 0) {
    number++
    if (text ~ /^#\[cfg\(test\)\]/) { last = number; break }
  }
  close(path)
}

/^DA:/ {
  split(substr($0, 4), part, ",")
  if (!ours || (last && part[1] + 0 >= last)) next
  all[file]++
  if (part[2] > 0) run[file]++
}

END {
  for (file in all) {
    total += all[file]; total_run += run[file]
    names[++count] = file
    percent[file] = 100 * run[file] / all[file]
  }
  if (!total) { print "no line was counted" > "/dev/stderr"; exit 1 }
  # Least first; few files, so the simplest sort does.
  for (i = 2; i <= count; i++)
    for (j = i; j > 1 && percent[names[j]] < percent[names[j - 1]]; j--) {
      swap = names[j]; names[j] = names[j - 1]; names[j - 1] = swap
    }
  lines_percent = 100 * total_run / total
  printf "{\"lines_percent\":%.2f,\"by_file\":{", lines_percent > json
  for (i = 1; i <= count; i++)
    printf "%s\"%s\":%.2f", (i == 1 ? "" : ","), names[i], percent[names[i]] > json
  print "}}" > json
  for (i = 1; i <= count && i <= 25; i++)
    printf "  %6.2f %%  %4d of %4d lines  %s\n", percent[names[i]], run[names[i]], all[names[i]], names[i]
  printf "  %6.2f %% of %d lines in %d files\n", lines_percent, total, count
  exit (lines_percent < goal)
}
