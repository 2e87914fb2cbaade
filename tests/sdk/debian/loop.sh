# Sourced by the programs for command-line tools: `answer_lines FETCH...` runs the command once per line on
# stdin. Its stdout is the object; a tool that a signal ends (status 129 to 159) ends the program likewise.
answer_lines() {
    while read -r _; do
        status=0
        body=$("$@" 2>"$HOME/stderr") || status=$?
        if [ "$status" -gt 128 ] && [ "$status" -lt 160 ]; then
            cat "$HOME/stderr" >&2
            exit "$status"
        elif [ "$status" -eq 0 ]; then
            printf 'ok %s\n' "$body"
        else
            printf 'error status %s: %s\n' "$status" "$(printf '%s' "$body" | cat - "$HOME/stderr" | tr '\n' ' ')"
        fi
    done
}
