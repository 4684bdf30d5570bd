package workerfn

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
)

// hostilePy is a task that looks for whatever its sandbox holds. What it finds it
// returns; a clean sandbox gives an empty list.
const hostilePy = `
import ctypes, glob, os, re, signal, socket, subprocess, sys, time, urllib.request

SECRET = re.compile(rb'AKIAHOSTILE|1-secret|AWS_LAMBDA_RUNTIME_API|AWS_CONTAINER|GUST_TABLE|GUST_DATA_BUCKET')
found = []


def note(what, *more):
    found.append(' '.join([what] + [str(m) for m in more]))


def attempt(f):
    try:
        f()
    except (OSError, PermissionError, ValueError):
        pass


def others():
    for p in os.listdir('/proc'):
        if p.isdigit() and int(p) != os.getpid():
            try:
                os.stat('/proc/' + p)
            except OSError:
                continue
            yield int(p)


def environ():
    if SECRET.search(b'\n'.join(k + b'=' + v for k, v in os.environb.items())):
        note('own environment')
    with open('/proc/self/environ', 'rb') as f:
        if SECRET.search(f.read()):
            note('own /proc environ')
    for pid in others():
        def read():
            with open('/proc/%d/environ' % pid, 'rb') as f:
                m = SECRET.search(f.read())
                if m:
                    note('environ of', pid, m.group())
        attempt(read)


def memory():
    ppid = os.getppid()
    for pid in {ppid, host()} | set(others()):
        def read():
            with open('/proc/%d/maps' % pid) as maps, open('/proc/%d/mem' % pid, 'rb', 0) as mem:
                if pid in (ppid, host()):
                    note('memory of', pid)
        attempt(read)
        def fds():
            for fd in os.listdir('/proc/%d/fd' % pid):
                if pid in (ppid, host()):
                    note('descriptors of', pid)
        attempt(fds)


def host():
    """The worker: the parent of the zygote, or of this process."""
    pid = os.getppid()
    with open('/proc/%d/stat' % pid) as f:
        up = int(f.read().rpartition(')')[2].split()[1])
    with open('/proc/%d/comm' % pid) as f:
        comm = f.read()
    return pid if 'gust' in comm else up


def ptrace():
    libc = ctypes.CDLL(None, use_errno=True)
    for pid in (os.getppid(), host()):
        for request in (16, 0x4206):  # ATTACH, SEIZE
            if libc.ptrace(request, pid, 0, 0) == 0:
                note('ptrace of', pid)
                libc.ptrace(17, pid, 0, 0)
    class iovec(ctypes.Structure):
        _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
    buf = ctypes.create_string_buffer(8)
    local, remote = iovec(ctypes.addressof(buf), 8), iovec(0x400000, 8)
    for pid in (os.getppid(), host()):
        if libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0:
            note('process_vm_readv of', pid)
    if libc.prctl(39, 0, 0, 0, 0) != 1:  # PR_GET_NO_NEW_PRIVS
        note('may gain privileges')


def runtime_api(port):
    base = 'http://127.0.0.1:%d/2018-06-01/runtime/' % port
    for method, path in (('GET', 'invocation/next'), ('POST', 'invocation/8476a536-e9f4-11e8-9739-000000000000/response'), ('POST', 'init/error')):
        req = urllib.request.Request(base + path, method=method, data=b'{}' if method == 'POST' else None)
        try:
            with urllib.request.urlopen(req, timeout=3) as r:
                note('runtime API', path, r.status)
        except OSError:
            pass


def leftovers(mine):
    roots = [os.environ.get('TMPDIR', '/tmp'), os.path.expanduser('~'), os.path.dirname(os.environ.get('TMPDIR', '/tmp'))]
    for root in roots:
        for p in glob.glob(root + '/**', recursive=True):
            if 'evil' in os.path.basename(p):
                note('leftover', p)
    for pid in others():
        def read():
            with open('/proc/%d/cmdline' % pid, 'rb') as f:
                if b'evil-daemon' in f.read():
                    note('survivor', pid)
        attempt(read)


def plant():
    """Leave files, daemons and a changed runner behind."""
    for root in (os.environ['TMPDIR'], os.path.expanduser('~'), os.path.dirname(os.environ['TMPDIR']), os.environ['TMPDIR'] + '/../cache', os.environ['TMPDIR'] + '/../..'):
        attempt(lambda: open(root + '/evil-file', 'w').close())
        def locked():
            os.makedirs(root + '/evil-dir/x')
            os.chmod(root + '/evil-dir', 0)
        attempt(locked)
    for p in glob.glob(os.environ['TMPDIR'] + '/../cache/gust-python-*/**/*.py', recursive=True):
        def change():
            os.chmod(p, 0o600)
            with open(p) as f:
                text = f.read()
            with open(p, 'w') as f:
                f.write('import os; os.environ["EVIL"] = "1"\n' + text)
        attempt(change)
    # daemons: own session, closed descriptors, empty environment
    code = "import os,time,signal\nfor s in (1,2,3,15): signal.signal(s, signal.SIG_IGN)\nwhile True:\n    time.sleep(0.02)\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                n = os.open('/dev/null', os.O_RDWR)
                for fd in range(3):
                    os.dup2(n, fd)
                os.closerange(3, 256)
                os.execve(sys.executable if os.path.exists(sys.executable or '') else '/usr/bin/python3', ['python3', '-c', code, 'evil-daemon'], {})
            os._exit(0)
    time.sleep(0.3)


def look(port):
    if os.environ.get('EVIL'):
        note('a changed runner ran')
    leftovers(False)
    environ()
    memory()
    ptrace()
    runtime_api(int(port))
    return found


def look_and_plant(port):
    look(port)
    plant()
    return found
`

func hostileDag(id, fn string, port string) string {
	return id + `:
  start_date: 2024-01-01
  schedule: null
  default_args: {owner: me}
  tasks:
    - {task_id: t, operator: airflow.providers.standard.operators.python.PythonOperator, python_callable: hostile.` + fn + `, op_kwargs: {port: "` + port + `"}}
    - {task_id: b, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "mkdir -p $TMPDIR/../cache && for f in $TMPDIR/../cache/gust-python-*/*.py; do chmod u+w $f; echo 'import os; os.environ[\"EVIL\"]=\"1\"' > $f.new; cat $f >> $f.new; mv $f.new $f; done; setsid bash -c 'trap \"\" TERM HUP; exec -a evil-daemon sleep 300' >/dev/null 2>&1 & sleep 0.2; cat /proc/$PPID/environ 2>&1 | tr '\\0' ' '; env"}
`
}

// TestHostileTask: a task looks for the worker's rights in every way it has, and
// leaves traps behind for the tasks that follow, of its own DAG and of another.
func TestHostileTask(t *testing.T) {
	if os.Getuid() == 0 {
		if _, err := os.Stat("/usr/bin/python3"); err != nil {
			t.Skip("this test is root and gives the function another user, which has no Python")
		}
	}
	c := newCloud(t)
	f := c.start()
	port := f.api[strings.LastIndexByte(f.api, ':')+1:]
	c.files(map[string]string{
		"one.yml": hostileDag("one", "look_and_plant", port), "two.yml": hostileDag("two", "look", port), "hostile.py": hostilePy,
	})
	found := func(k airflow.DagID, task airflow.TaskID) {
		t.Helper()
		run := c.run(k)
		d := c.next(task)
		if d.Key.DagID != k {
			t.Fatalf("dispatch of %s", d.Key)
		}
		f.do(d)
		if ti := c.ti(run, task); ti.State != airflow.TISuccess {
			t.Fatalf("%s is %s:\n%s", d.Key, ti.State, f.text(d.Key, 1))
		}
		if task != "t" {
			for _, secret := range []string{secretKey, "1-secret", "RUNTIME_API", "GUST_TABLE"} {
				if text := f.text(d.Key, 1); strings.Contains(text, secret) {
					t.Errorf("%s found %s:\n%s", d.Key, secret, text)
				}
			}
			return
		}
		var got []string
		if err := json.Unmarshal(c.attempt(d).XComs["return_value"], &got); err != nil {
			t.Fatalf("%v: %s", err, c.attempt(d).XComs["return_value"])
		}
		for _, g := range got {
			// A DAG's own cache is its own.
			if k != "one" || !strings.Contains(g, "leftover "+filepath.Join(f.dir, "gust", "cache")+"/") {
				t.Errorf("%s gained: %s", d.Key, g)
			}
		}
	}
	found("two", "t")
	found("one", "t") // plants
	if left := processes(t, f); len(left) > 1 {
		t.Errorf("processes after a dispatch: %q", left)
	}
	found("one", "t") // the same DAG: nothing of the dispatch before
	found("one", "b") // plants again, from bash
	found("one", "t")
	found("two", "t") // another DAG
	found("two", "b")
	found("two", "t")
	f.mu.Lock()
	if len(f.refused) == 0 {
		t.Error("the tasks did not reach the Runtime API: the test proves nothing about it")
	}
	f.mu.Unlock()
	if _, err := os.Stat(filepath.Join(f.dir, "evil-file")); err == nil {
		t.Error("a leftover in the folder for temporary files")
	}
}

// processes lists the commands of the function's user in its process tree.
func processes(t *testing.T, f *function) []string {
	t.Helper()
	var out []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(b) == 0 {
			continue
		}
		var st syscall.Stat_t
		if syscall.Stat("/proc/"+e.Name()+"/cwd", &st) != nil {
			continue
		}
		if text := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(text, "evil-daemon") || strings.Contains(text, filepath.Join(f.dir, "gust")) {
			out = append(out, text)
		}
	}
	return out
}
