package operator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/pyrepr"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/internal/worker/serde"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

func empty(context.Context, *taskrunner.Task) (*taskrunner.Result, error) {
	return &taskrunner.Result{}, nil
}

func smooth(_ context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	t.Log.Info("Enjoy Sade - Smooth Operator: https://www.youtube.com/watch?v=4TYv2PhG89A")
	return &taskrunner.Result{}, nil
}

const subprocessLogger = "airflow.task.hooks.airflow.providers.standard.hooks.subprocess.SubprocessHook"

func bash(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	return runBash(ctx, t, t.Args.String("bash_command", ""))
}

// bashDecorated runs the command that the function under @task.bash returns.
func bashDecorated(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	res, err := callPython(ctx, t, "python")
	if err != nil {
		return nil, err
	}
	v, err := serde.DecodeXCom(res.Value)
	if err != nil {
		return nil, err
	}
	command, ok := v.(string)
	if !ok || strings.TrimSpace(command) == "" {
		return nil, fmt.Errorf("The returned value from the TaskFlow callable must be a non-empty string.")
	}
	if command, err = t.RenderText(ctx, command); err != nil {
		return nil, err
	}
	return runBash(ctx, t, command)
}

// bashEnv is the child's environment: the worker's, or env, or both.
func bashEnv(t *taskrunner.Task, appendEnv bool) []string {
	env := t.Args.StringMap("env")
	var out []string
	if env == nil || appendEnv {
		out = append(out, t.Environ()...)
	}
	for _, kv := range env {
		out = append(out, kv[0]+"="+kv[1])
	}
	out = append(out, t.ContextVars()...)
	return append(out, t.Markers()...)
}

func runBash(ctx context.Context, t *taskrunner.Task, command string) (*taskrunner.Result, error) {
	skipCodes := []int{99}
	if _, given := t.Spec.Kwargs["skip_on_exit_code"]; given {
		skipCodes = nil
		if t.Args.Has("skip_on_exit_code") {
			skipCodes = t.Args.Ints("skip_on_exit_code")
		}
	}
	cwd := t.Args.String("cwd", "")
	env := bashEnv(t, t.Args.Bool("append_env", false))
	processor := t.Args.Callable("output_processor")
	latin1 := isLatin1(t.Args.String("output_encoding", "utf-8"))
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	if command == "" {
		return nil, fmt.Errorf("bash_command is empty: give a command")
	}
	if cwd != "" {
		st, err := os.Stat(cwd)
		if err != nil {
			return nil, fmt.Errorf("Can not find the cwd: %s", cwd)
		}
		if !st.IsDir() {
			return nil, fmt.Errorf("The cwd %s must be a directory", cwd)
		}
	}
	bashPath, err := exec.LookPath("bash")
	if err != nil {
		bashPath = "bash"
	}
	args := []string{"-c", command}
	if isScriptFile(t) {
		script, remove, err := writeScript(command, t.RunAs())
		if err != nil {
			return nil, err
		}
		defer remove()
		args = []string{script}
	}
	log := t.Log.Named(subprocessLogger)
	log.Info("Tmp dir root location: " + os.TempDir())
	if args[0] == "-c" {
		log.Info(fmt.Sprintf("Running command: ['%s', '-c', %s]", bashPath, pyrepr.Str(command)))
	} else {
		log.Info(fmt.Sprintf("Running script file: ['%s', %s]", bashPath, pyrepr.Str(args[0])))
	}
	log.Info("Output:")
	out, exit, err := runShell(ctx, t, shell{path: bashPath, args: args, env: env, dir: cwd, latin1: latin1, line: log.Info})
	if err != nil {
		return nil, err
	}
	log.Info(fmt.Sprintf("Command exited with return code %d", exitCode(exit)))
	if slices.Contains(skipCodes, exit.Code) {
		return nil, &taskrunner.SkipError{Message: fmt.Sprintf("Bash command returned exit code %d. Skipping.", exit.Code)}
	}
	if !exit.OK() {
		return nil, fmt.Errorf("Bash command failed. The command returned a non-zero exit code %d. Cause: %v.", exitCode(exit), exit)
	}
	if processor != nil {
		res, err := t.Python(ctx, taskrunner.PythonCall{Kind: "python", Callable: processor, Args: jinja.NewList(out)})
		if err != nil {
			return nil, err
		}
		return &taskrunner.Result{Value: res.Value}, nil
	}
	return &taskrunner.Result{Value: taskrunner.XComText(out)}, nil
}

// exitCode is the code as Python's subprocess has it: negative for a signal.
func exitCode(e proc.Exit) int {
	if e.Signal != 0 {
		return -int(e.Signal)
	}
	return e.Code
}

// isScriptFile reports whether bash_command named a file before rendering.
func isScriptFile(t *taskrunner.Task) bool {
	v, err := serde.FromDocument(t.Spec.Kwargs["bash_command"])
	if err != nil {
		return false
	}
	s, ok := v.(string)
	return ok && (strings.HasSuffix(s, ".sh") || strings.HasSuffix(s, ".bash"))
}

func writeScript(text string, as *proc.User) (path string, remove func(), err error) {
	f, err := os.CreateTemp("", "gust-bash-*.sh")
	if err != nil {
		return "", nil, err
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close(), as.Own(f.Name())); err != nil {
		remove()
		return "", nil, err
	}
	return f.Name(), remove, nil
}

type shell struct {
	path   string
	args   []string
	env    []string
	dir    string // "" = a new folder, removed after
	latin1 bool
	line   func(string)
}

// runShell runs a command and returns its last line of output. When ctx ends
// the whole process group is ended and ctx's cause is the error.
func runShell(ctx context.Context, t *taskrunner.Task, s shell) (last string, exit proc.Exit, err error) {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "airflowtmp")
		if err != nil {
			return "", exit, err
		}
		defer os.RemoveAll(dir)
		if err := t.RunAs().Own(dir); err != nil {
			return "", exit, err
		}
		s.dir = dir
	}
	var mu sync.Mutex
	p, err := proc.Start(proc.Spec{Path: s.path, Args: s.args, Env: s.env, Dir: s.dir, As: t.RunAs(), Stdout: func(b []byte) {
		line := strings.TrimRightFunc(decodeLine(b, s.latin1), isPySpace)
		mu.Lock()
		last = line
		mu.Unlock()
		s.line(line)
	}})
	if err != nil {
		return "", exit, err
	}
	stop := context.AfterFunc(ctx, func() {
		t.Log.Warn("Sending SIGTERM to the process group: " + stopCause(ctx))
		p.End(t.Grace())
	})
	exit = p.Wait()
	if !stop() {
		if exit.Signal == syscall.SIGKILL {
			t.Log.Warn(fmt.Sprintf("The process did not end within %v of SIGTERM: SIGKILL was sent to the process group", t.Grace()))
		}
		return "", exit, context.Cause(ctx)
	}
	mu.Lock()
	defer mu.Unlock()
	return last, exit, nil
}

// stopCause is why a task is stopped, in words.
func stopCause(ctx context.Context) string {
	var s *worker.SupersededError
	if errors.As(context.Cause(ctx), &s) && s.Cause != "" {
		return s.Cause
	}
	return context.Cause(ctx).Error()
}

func isPySpace(r rune) bool {
	return r == ' ' || r >= '\t' && r <= '\r' || r >= 0x1c && r <= 0x1f || r == 0x85 || r == 0xa0
}

func isLatin1(name string) bool {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
	case "latin-1", "latin1", "iso-8859-1":
		return true
	}
	return false
}

// decodeLine is bytes.decode(errors="backslashreplace").
func decodeLine(b []byte, latin1 bool) string {
	if latin1 {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		return string(r)
	}
	if utf8.Valid(b) {
		return string(b)
	}
	var sb strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&sb, `\x%02x`, b[0])
		} else {
			sb.WriteRune(r)
		}
		b = b[n:]
	}
	return sb.String()
}

// pokeBash is BashSensor: exit code 0 means done.
func pokeBash(ctx context.Context, t *taskrunner.Task) (poked, error) {
	command := t.Args.Required("bash_command")
	env := bashEnv(t, false)
	retryCode := t.Args.Int("retry_exit_code", -1)
	if err := t.Args.Err(); err != nil {
		return poked{}, err
	}
	script, remove, err := writeScript(command, t.RunAs())
	if err != nil {
		return poked{}, err
	}
	defer remove()
	_, exit, err := runShell(ctx, t, shell{path: "bash", args: []string{script}, env: env, line: t.Log.Info})
	if err != nil {
		return poked{}, err
	}
	code := exitCode(exit)
	t.Log.Info(fmt.Sprintf("Command exited with return code %d", code))
	if code == 0 {
		return poked{done: true}, nil
	}
	if t.Args.Has("retry_exit_code") && code != retryCode {
		return poked{}, fmt.Errorf("Bash command failed. The command returned exit code %d, which is not retry_exit_code %d", code, retryCode)
	}
	return poked{}, nil
}
