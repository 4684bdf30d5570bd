package operator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/taskrunner"
)

// pythonCall is the call of the task's python_callable.
func pythonCall(t *taskrunner.Task, kind string) (taskrunner.PythonCall, error) {
	c := taskrunner.PythonCall{
		Kind: kind, Callable: t.Args.Callable("python_callable"), Args: t.Args.Get("op_args"), Inject: true,
		TemplatesDict: t.Args.Get("templates_dict"), LogValue: t.Args.Bool("show_return_value_in_logs", true),
	}
	if d := t.Args.Dict("op_kwargs"); d != nil {
		c.Kwargs = d
	}
	switch v := c.Args.(type) {
	case nil, *jinja.List, *jinja.Tuple:
	default:
		t.Args.Reject("op_args", "expected a list, got %s", jinja.TypeOf(v).QualName())
	}
	if c.Callable == nil && t.Args.Err() == nil {
		t.Args.Reject("python_callable", "is missing: give an import path, or python_callable_name and python_callable_file")
	}
	return c, t.Args.Err()
}

func callPython(ctx context.Context, t *taskrunner.Task, kind string) (*pyproc.Result, error) {
	c, err := pythonCall(t, kind)
	if err != nil {
		return nil, err
	}
	return runPython(ctx, t, c)
}

func runPython(ctx context.Context, t *taskrunner.Task, c taskrunner.PythonCall) (*pyproc.Result, error) {
	res, err := t.Python(ctx, c)
	if err != nil {
		return nil, err
	}
	if res.Outcome == "exit" {
		return nil, fmt.Errorf("the callable ended the process by sys.exit(%d): return from it instead", res.Code)
	}
	return res, nil
}

func python(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	res, err := callPython(ctx, t, "python")
	if err != nil {
		return nil, err
	}
	return &taskrunner.Result{Value: res.Value, Outlets: outlets(res)}, nil
}

func outlets(res *pyproc.Result) []taskrunner.OutletAddition {
	var out []taskrunner.OutletAddition
	for _, e := range res.OutletEvents {
		a := taskrunner.OutletAddition{Alias: e.Kind == "alias", Name: e.Name, Extra: e.Extra}
		for _, x := range e.Added {
			a.Added = append(a.Added, taskrunner.AddedAsset{Name: x.Name, URI: x.URI, Extra: x.Extra})
		}
		out = append(out, a)
	}
	return out
}

func branchPython(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	return branching(python)(ctx, t)
}

// branching makes a branch of an operator that returns what to follow.
func branching(op taskrunner.OperatorFunc) taskrunner.OperatorFunc {
	return func(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
		res, err := op(ctx, t)
		if err != nil {
			return nil, err
		}
		value := res.Value
		if len(value) == 0 {
			value = json.RawMessage("null")
		}
		t.Log.Info("Branch into " + string(value))
		ids, err := branchIDs(value)
		if err != nil {
			return nil, err
		}
		out, err := branchResult(t, ids, value)
		if err != nil {
			return nil, err
		}
		out.Outlets = res.Outlets
		return out, nil
	}
}

func shortCircuit(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	ignore := t.Args.Bool("ignore_downstream_trigger_rules", true)
	res, err := callPython(ctx, t, "short_circuit")
	if err != nil {
		return nil, err
	}
	var v struct {
		Truthy bool            `json:"truthy"`
		Value  json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(res.Value, &v); err != nil {
		return nil, err
	}
	t.Log.Info("Condition result is " + string(v.Value))
	if v.Truthy || len(t.Task.Downstream) == 0 {
		t.Log.Info("Proceeding with downstream tasks...")
		return &taskrunner.Result{Value: v.Value, Outlets: outlets(res)}, nil
	}
	t.Log.Info("Skipping downstream tasks")
	out := skipResult(shortCircuitSkip(t, ignore), v.Value)
	out.Outlets = outlets(res)
	return out, nil
}

// pokePython is PythonSensor and @task.sensor.
func pokePython(ctx context.Context, t *taskrunner.Task) (poked, error) {
	c, err := pythonCall(t, "sensor")
	if err != nil {
		return poked{}, err
	}
	c.LogValue = false
	res, err := runPython(ctx, t, c)
	if err != nil {
		return poked{}, err
	}
	return pokedBy(res.Value)
}

func pokedBy(value json.RawMessage) (poked, error) {
	var v struct {
		Done  bool            `json:"done"`
		Value json.RawMessage `json:"value"`
	}
	err := json.Unmarshal(value, &v)
	return poked{done: v.Done, value: v.Value}, err
}

// externalPython runs the function's source in another interpreter.
func externalPython(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	interp := t.Args.Required("python")
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(interp) {
		if p, err := exec.LookPath(interp); err == nil {
			interp = p
		}
	}
	if st, err := os.Stat(interp); err != nil || st.IsDir() {
		return nil, fmt.Errorf("Python Path '%s' must exists: give the path of an interpreter on the worker", interp)
	}
	return isolated(ctx, t, interp)
}

// isolated runs the task's function in interp, from its source alone.
func isolated(ctx context.Context, t *taskrunner.Task, interp string) (*taskrunner.Result, error) {
	c, err := pythonCall(t, "python")
	if err != nil {
		return nil, err
	}
	c.Isolated, c.Interpreter = true, interp
	if t.Args.Has("env_vars") {
		if t.Args.Bool("inherit_env", true) {
			c.Env = append(append([]string{}, t.Environ()...), t.ContextVars()...)
		} else {
			c.Env = []string{}
		}
		for _, kv := range t.Args.StringMap("env_vars") {
			c.Env = append(c.Env, kv[0]+"="+kv[1])
		}
	} else if !t.Args.Bool("inherit_env", true) {
		c.Env = []string{}
	}
	var skipCodes []int
	if t.Args.Has("skip_on_exit_code") {
		skipCodes = t.Args.Ints("skip_on_exit_code")
	}
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	res, err := t.Python(ctx, c)
	if err != nil {
		return nil, err
	}
	if res.Outcome == "exit" {
		if slices.Contains(skipCodes, res.Code) {
			return nil, &taskrunner.SkipError{Message: fmt.Sprintf("Process exited with code %d. Skipping.", res.Code)}
		}
		return nil, fmt.Errorf("the function ended its process by sys.exit(%d)", res.Code)
	}
	return &taskrunner.Result{Value: res.Value, Outlets: outlets(res)}, nil
}

// pythonVirtualenv runs the function's source in a virtual environment made for it.
func pythonVirtualenv(ctx context.Context, t *taskrunner.Task) (*taskrunner.Result, error) {
	v := venv{
		version: t.Args.String("python_version", ""), site: t.Args.Bool("system_site_packages", true),
		pipOptions: t.Args.Strings("pip_install_options"), indexURLs: t.Args.Strings("index_urls"),
	}
	if t.Args.Has("index_urls_from_connection_ids") {
		t.Args.Reject("index_urls_from_connection_ids", "is not supported: give index_urls")
	}
	switch r := t.Args.Get("requirements").(type) {
	case string: // the rendered text of a requirements file
		v.requirements = strings.Split(strings.TrimSpace(r), "\n")
	default:
		v.requirements = t.Args.Strings("requirements")
	}
	cache := t.Args.String("venv_cache_path", "")
	if err := t.Args.Err(); err != nil {
		return nil, err
	}
	v.requirements = slices.DeleteFunc(v.requirements, func(s string) bool { return strings.TrimSpace(s) == "" })
	dir := filepath.Join(cache, "venv-"+v.hash())
	if cache == "" {
		tmp, err := os.MkdirTemp("", "venv")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(tmp)
		if err := t.RunAs().Own(tmp); err != nil {
			return nil, err
		}
		dir = filepath.Join(tmp, "venv")
	}
	interp := filepath.Join(dir, "bin", "python")
	if _, err := os.Stat(filepath.Join(dir, venvComplete)); err != nil {
		if err := v.create(ctx, t, dir); err != nil {
			return nil, err
		}
	} else {
		t.Log.Info("Re-using the virtual environment " + dir)
	}
	return isolated(ctx, t, interp)
}

type venv struct {
	version                             string
	site                                bool
	requirements, pipOptions, indexURLs []string
}

const venvComplete = "gust-complete"

// hash names the environment in a cache.
func (v venv) hash() string {
	b, err := json.Marshal([]any{v.version, v.site, v.requirements, v.pipOptions, v.indexURLs})
	if err != nil {
		panic(err) // plain texts always encode
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:8])
}

func (v venv) create(ctx context.Context, t *taskrunner.Task, dir string) error {
	base := "python3"
	if v.version != "" {
		base = "python" + strings.TrimPrefix(v.version, "python")
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	args := []string{"-m", "venv"}
	if v.site {
		args = append(args, "--system-site-packages")
	}
	if len(v.requirements) == 0 {
		args = append(args, "--without-pip")
	}
	run := func(path string, args ...string) error {
		t.Log.Info("Executing cmd: " + path + " " + strings.Join(args, " "))
		_, exit, err := runShell(ctx, t, shell{path: path, args: args, env: append(append([]string{}, t.Environ()...), t.Markers()...), line: t.Log.Info})
		if err != nil {
			return err
		}
		if !exit.OK() {
			return fmt.Errorf("%s failed: %v", filepath.Base(path), exit)
		}
		return nil
	}
	if err := run(base, append(args, dir)...); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("no %s on this worker: install it, or change python_version: %w", base, err)
		}
		return err
	}
	if len(v.requirements) > 0 {
		pip := append([]string{"-m", "pip", "install"}, v.pipOptions...)
		for i, u := range v.indexURLs {
			if i == 0 {
				pip = append(pip, "--index-url", u)
			} else {
				pip = append(pip, "--extra-index-url", u)
			}
		}
		if err := run(filepath.Join(dir, "bin", "python"), append(pip, v.requirements...)...); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, venvComplete), nil, 0o600)
}
