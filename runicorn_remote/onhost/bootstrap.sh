# POSIX sh. Finds a Python >= 3.6 and hands it the program; nothing is written to a disk.
# $0 is the runner, $1 the program, $2 its arguments. All lines are joined to one, which is quoted
# for any login shell: no line end without a semicolon, no single quote, backslash or exclamation mark.
for python in
    python3 /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3
    "$HOME/miniforge3/bin/python3" "$HOME/mambaforge/bin/python3" "$HOME/miniconda3/bin/python3"
    "$HOME/anaconda3/bin/python3" "$HOME/micromamba/bin/python3" "$HOME"/.pyenv/versions/*/bin/python3
    "$HOME"/.local/share/uv/python/*/bin/python3 /opt/conda/bin/python3 /opt/miniconda3/bin/python3
    /opt/anaconda3/bin/python3 /opt/miniforge3/bin/python3 python3.13 python3.12 python3.11 python3.10;
do
    command -v "$python" >/dev/null 2>&1 || continue;
    # -S: the .pth files of its packages are none of our business, and may take long.
    "$python" -I -S -c "$0" "$1" "$2" </dev/null;
    status=$?;
    # 97: too old. 126, 127: a shim or a link without a Python behind it.
    case $status in 97|126|127) ;; *) exit $status ;; esac;
done;
echo "@@no-python";
exit 97
