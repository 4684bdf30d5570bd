package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

const (
	success, failed = airflow.RunSuccess, airflow.RunFailed
)

func TestBash(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "bash", nil).ends(failed, `only_env=success more_env=success context_env=success in_cwd=success bad_cwd=failed lines=success silent=success
		no_push=success skips=skipped skips_too=skipped not_skipped=failed fails=failed script=success no_script=failed undefined=failed bad_template=failed processed=success`)
	nodash := r.info().LogicalDate.Format("20060102")
	r.has("only_env", `"`+nodash+`|unset|none"`).has("more_env", `"v|value of the environment"`).has("context_env", `"bash|context_env|1"`)
	r.has("in_cwd", `"`+scratch+`"`).has("lines", `"last"`).has("silent", `""`)
	if got := r.xcom("no_push", "return_value"); strings.Contains(got, "hidden") {
		t.Errorf("do_xcom_push: false pushed %s", got)
	}
	r.logs("bad_cwd", "/nonexistent").logs("fails", "to stderr", "exit code 7").logs("skips", "99").logs("lines", "first", "second")
	r.logs("script", "from "+nodash).logs("no_script", "sub/missing.sh").logs("undefined", "'nonsense' is undefined").logs("bad_template", "TemplateSyntaxError")
	r.has("processed", `[1,2]`)
}

func TestKilledByTimeout(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	r := shared.trigger(t, "bash_kill", nil).ends(failed, "obedient=failed stubborn=failed tidy=failed retried=success/2 python=failed stubborn_python=failed")
	if d := time.Since(begin); d > 12*time.Second {
		t.Errorf("took %s", d)
	}
	for _, name := range []string{"obedient", "stubborn", "tidy"} {
		lines := strings.Split(strings.TrimSpace(r.log(name, 1)), "\n")
		r.logs(name, "started")
		if tail := strings.Join(lines[max(0, len(lines)-3):], "\n"); !strings.Contains(strings.ToLower(tail), "timeout") && !strings.Contains(strings.ToLower(tail), "timed out") {
			t.Errorf("the log of %s does not end with the cause:\n%s", name, strings.Join(lines, "\n"))
		}
	}
	r.logs("tidy", "cleaned up")
}

// TestRunAsUser: what a task with run_as_user needs of the private home is there.
func TestRunAsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		shared.trigger(t, "run_as", nil).ends(failed, "bash=failed python=failed unknown=failed").logs("bash", "only root can run tasks as another user")
		return
	}
	r := shared.trigger(t, "run_as", nil).ends(failed, "bash=success python=success unknown=failed").has("bash", `"nobody"`).has("python", `"nobody 0"`)
	r.logs("unknown", "there is no such user").callbacks("run_as nobody "+string(r.key.RunID), 1)
}

func TestPython(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "python", func(o *engine.TriggerOptions) { o.Conf = json.RawMessage(`{"z": "from conf", "n": 7}`) })
	r.ends(failed, `classic=success old_path=success by_file=success record=success outputs=success inferred=success uses=success list=success total=success
		templated=success push=success pull=success fails=failed/1 final=failed/1 skips=skipped flaky=success/3 killed=failed binary=success external=success not_callable=failed`)
	r.has("classic", `"hi world `+r.info().LogicalDate.Format("2006-01-02")+` 1"`).has("old_path", "3").has("by_file", `[3,"imported beside it"]`)
	r.has("uses", "42").has("total", "3").has("templated", `{"a":"7","b":["from conf"]}`).has("pull", `[{"k":"v"},null]`).has("flaky", "3").has("external", "21")
	if got := r.xcom("outputs", "b"); got != `[1,2,{"c":null}]` {
		t.Errorf("multiple_outputs: b = %s", got)
	}
	if got := r.xcom("inferred", "y"); got != `"two"` {
		t.Errorf("inferred multiple_outputs: y = %s", got)
	}
	if got := r.xcom("record", "return_value"); !strings.Contains(got, "1735776000") || !strings.Contains(got, `"a":1`) {
		t.Errorf("dict with a date: %s", got)
	}
	r.logs("classic", "to stderr").logs("fails", "ValueError", "broken on purpose", "fns.py").logs("final", "never again").logs("killed", "about to die", "SIGKILL")
	r.logs("not_callable", "TypeError", "missing 1 required positional argument: 'name'")
	if l := r.log("flaky", 1); !strings.Contains(l, "try 1 of 3") {
		t.Errorf("log of the first try: %s", l)
	}
}

func TestBranches(t *testing.T) {
	t.Parallel()
	shared.trigger(t, "branches", nil).ends(failed, `pick=success a=success b=skipped below_a=success grp.in1=success join=success strict=skipped none=success c=skipped
		wrong=failed d=upstream_failed stop_all=success e=skipped f=skipped stop_next=success g=skipped h=success go_on=success i=success weekday=success day_yes=success day_no=skipped
		moment=success in_time=skipped too_late=success latest=success after_latest=success`).logs("wrong", "nowhere").has("go_on", `"yes please"`)
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "templates", func(o *engine.TriggerOptions) {
		o.Conf, o.RunID = json.RawMessage(`{"who": "conf wins", "deep": [1, "two"]}`), "odd~id:+1.x"
		ld := time.Date(2024, 12, 30, 0, 0, 0, 0, time.UTC)
		o.LogicalDate = &ld
	})
	r.ends(failed, `dates=success ids=success given=success values=success conns=success secret=success leak=failed seen=success macro=success macro_fails=failed missing_var=failed missing_conn=failed`)
	r.has("dates", `"2024-12-30 20241230T000000 2025-01-02 30/12"`).has("ids", `"templates ids odd~id:+1.x 1 manual acceptance"`)
	r.has("given", `"conf wins conf wins two"`).has("values", `"of the store value of the environment dflt 2"`).has("conns", `"db.example eu True"`)
	r.has("seen", `["value of the environment","fallback",[1,2],"ada","db.example",5433,"sales"]`).has("macro", `"5 [1, 2024-12-30]"`).logs("macro_fails", "ValueError", "no luck")
	r.hides("store-secret-123", "stored-conn-secret", "env-conn-secret", "env-pass-4711", "extra-token-77")
	r.logs("secret", "k=*** p=*** q=*** v=***").logs("leak", "x***").logs("seen", "the key is *** and the password ***")
	if f := r.rendered("secret", "bash_command"); !strings.Contains(f, "***") {
		t.Errorf("rendered field: %s", f)
	}
	r.logs("missing_var", "not_there").logs("missing_conn", "not_there")
	shared.trigger(t, "native", nil).ends(success, "list=success total=success").has("total", "6")
}

func countLines(path, with string) int {
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return 0
	}
	n := 0
	for _, l := range strings.Split(string(b), "\n") {
		if strings.Contains(l, with) {
			n++
		}
	}
	return n
}
