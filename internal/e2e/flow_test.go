package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/scheduler"
)

func TestMapping(t *testing.T) {
	t.Parallel()
	r := shared.trigger(t, "mapping", nil).ends(failed, `literal[0]=success literal[1]=success literal[2]=skipped numbers=success over_xcom[0]=success over_xcom[1]=success over_xcom[2]=success
		sum=success again[0]=success again[1]=success again[2]=success product[0]=success product[1]=success product[2]=success product[3]=success product[4]=success product[5]=success
		table=success items[0]=success items[1]=success empty=success over_empty=skipped after_empty=skipped join=success over_dict[0]=success over_dict[1]=success
		half[0]=success/1 half[1]=failed/2 half[2]=success/1 below_half=upstream_failed one_ok=success`)
	r.has("literal[1]", `"b1"`).has("over_xcom[2]", "12").has("sum", "33").has("again[1]", "11").has("product[0]", "11").has("product[2]", "13").has("product[3]", "21")
	r.has("items[1]", "[2,3]").has("over_dict[1]", `{"__classname__":"builtins.tuple","__version__":1,"__data__":["k2",2]}`)
	if got := r.ti("over_xcom[1]").RenderedMapIndex; got != "no 1 of 1" {
		t.Errorf("map_index_template: %q", got)
	}
	r = shared.trigger(t, "mapping_too_long", nil).ends(failed, "many=failed over=upstream_failed text=failed over_text=upstream_failed")
	r.logs("many", "41", "40").logs("text", "unmappable return type")
	shared.trigger(t, "mapping_limit", nil).ends(success, "m[0]=success m[1]=success m[2]=success")
}

// TestMappingBeyondDagFactory runs what Airflow's Python API can map and dag-factory
// cannot: expand_kwargs, joined outputs, mapped task groups.
func TestMappingBeyondDagFactory(t *testing.T) {
	t.Parallel()
	kwargs := shared.trigger(t, "expand_kwargs", nil)
	group := shared.trigger(t, "mapped_group", nil)
	empty := shared.trigger(t, "mapped_group_empty", nil)

	r := kwargs.ends(success, `literal[0]=success literal[1]=success rows=success over[0]=success over[1]=success classic[0]=success classic[1]=success numbers=success
		zipped[0]=success zipped[1]=success padded[0]=success padded[1]=success padded[2]=success
		joined[0]=success joined[1]=success joined[2]=success joined[3]=success joined[4]=success joined[5]=success joined[6]=success sum=success`)
	r.has("literal[0]", `"a1"`).has("literal[1]", `"b1"`).has("over[0]", "3").has("over[1]", "3").has("classic[0]", "5").has("classic[1]", "9")
	r.has("zipped[1]", "[1,20]").has("padded[2]", "[2,0]").has("joined[3]", "100").has("joined[6]", "2").has("sum", "106")
	if got := r.ti("over[1]").RenderedMapIndex; got != "x=3" {
		t.Errorf("map_index_template: %q", got)
	}

	var want []string
	for _, task := range []string{"g.add", "g.double", "g.say"} {
		for i := range 4 {
			want = append(want, airflow.TIName(airflow.TaskID(task), i)+"=success")
		}
	}
	for i := range 6 {
		want = append(want, airflow.TIName("outer.inner.leaf", i)+"=success")
	}
	r = group.ends(success, strings.Join(want, " ")+` sizes=success all=success h.n[0]=success h.n[1]=success h.n[2]=success k.kw[0]=success k.kw[1]=success
		outer.head[0]=success outer.head[1]=success after=success`)
	r.has("g.add[0]", "11").has("g.add[1]", "21").has("g.add[2]", "12").has("g.add[3]", "22").has("g.double[3]", "44").has("g.say[2]", `"2-10-24"`).has("all", "132")
	r.has("h.n[2]", "3").has("k.kw[0]", `"p3"`).has("k.kw[1]", `"q4"`).has("outer.head[1]", `"B"`).has("outer.inner.leaf[2]", `"A-3"`).has("outer.inner.leaf[3]", `"B-1"`)
	if got := r.ti("g.add[3]").RenderedMapIndex; got != "2 and 20" {
		t.Errorf("map_index_template: %q", got)
	}
	empty.ends(success, "none=success g.a=skipped b=skipped")
}

func TestGroupsSetupTeardown(t *testing.T) {
	t.Parallel()
	shared.trigger(t, "groups", nil).ends(success, "outer.a=success/2 outer.inner.b=failed/2 after.c=upstream_failed after.d=success e=success")
	shared.trigger(t, "teardown", nil).ends(failed, "setup=success work=failed more=upstream_failed teardown=success")
	shared.trigger(t, "teardown_fails", nil).ends(success, "setup=success work=success teardown=failed")
	shared.trigger(t, "setup_fails", nil).ends(failed, "setup=failed work=upstream_failed late=upstream_failed teardown=upstream_failed")
}

func TestTriggerRules(t *testing.T) {
	t.Parallel()
	shared.trigger(t, "rules", nil).ends(success, `ok=success ko=failed sk=skipped all_success=upstream_failed all_failed=success all_done=success all_done_min=success all_skipped=success
		one_success=success one_failed=success one_done=success none_failed=success nf_min_one=skipped none_skipped=skipped always=success old_name=success`)
}

func TestRetriesWait(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	r := shared.trigger(t, "backoff", nil).ends(failed, "grows=failed/3 fixed=failed/3")
	if d := time.Since(begin); d < 2*time.Second || d > 8*time.Second {
		t.Errorf("two retries, each after 1 s, took %s", d)
	}
	tries, err := shared.tool.Store.ListTries(t.Context(), r.ti("grows").TaskInstanceKey)
	if err != nil || len(tries) != 2 { // the last one is the instance itself
		t.Errorf("%d tries in the history: %v", len(tries), err)
	}
	for try := 1; try <= 3; try++ {
		if r.log("grows", try) == "" {
			t.Errorf("no log of try %d", try)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	t.Run("pool", func(t *testing.T) {
		t.Parallel()
		r := shared.trigger(t, "pool_single", nil).ends(success, "low=success mid=success high=success")
		if l, m, h := r.ti("low").StartDate, r.ti("mid").StartDate, r.ti("high").StartDate; h.After(*m) || m.After(*l) {
			t.Errorf("order by priority: high %s, mid %s, low %s", h, m, l)
		}
	})
	t.Run("pool that never has room", func(t *testing.T) {
		t.Parallel()
		r := shared.trigger(t, "pool_wrong", nil)
		r.until("fine", airflow.TISuccess)
		for task, want := range map[string]string{"too_wide": "pair", "no_pool": "nowhere"} {
			r.explains(task, want)
		}
		if _, err := shared.tool.Engine.MarkRun(t.Context(), r.key, airflow.RunFailed, "me"); err != nil {
			t.Fatal(err)
		}
		r.ends(failed, "fine=success too_wide=skipped no_pool=skipped")
		shared.notify(t, localapp.Notice{Discover: true})
	})
	t.Run("max_active_tasks", func(t *testing.T) {
		t.Parallel()
		shared.trigger(t, "active_tasks", nil).ends(success, "a=success b=success c=success")
	})
	t.Run("max_active_tis_per_dag", func(t *testing.T) {
		t.Parallel()
		a, b := shared.trigger(t, "across_runs", nil), shared.trigger(t, "across_runs", nil)
		a.ends(success, "a=success")
		b.ends(success, "a=success")
	})
	t.Run("catchup with max_active_runs", func(t *testing.T) {
		t.Parallel()
		eventually(t, "5 runs", func() bool {
			rs := shared.runs(t, "catches_up")
			return len(rs) == 5 && rs[4].State == success
		})
		b, _ := os.ReadFile(filepath.Join(scratch, "caught"))
		if string(b) != "2025-02-01\n2025-02-02\n2025-02-03\n2025-02-04\n2025-02-05\n" {
			t.Errorf("order of the runs: %q", b)
		}
		shared.run(t, "catches_up", "scheduled__2025-02-03T00:00:00+00:00").ends(success, "a=success")
	})
	t.Run("max_consecutive_failed_dag_runs", func(t *testing.T) {
		t.Parallel()
		eventually(t, "paused", func() bool {
			m, err := shared.tool.Store.GetDag(t.Context(), "gives_up")
			return err == nil && m.IsPaused
		})
		if rs := shared.runs(t, "gives_up"); len(rs) < 2 || len(rs) > 3 || rs[1].State != failed {
			t.Errorf("%d runs: %+v", len(rs), rs)
		}
	})
}

// explains demands a reason for an instance that does not move.
func (r *oneRun) explains(name string, want ...string) {
	r.Helper()
	var text string
	eventually(r.T, "reason of "+name, func() bool {
		rs, err := r.s.tool.Engine.Explain(r.Context(), r.key)
		if err != nil {
			r.Fatal(err)
		}
		text = ""
		for _, x := range rs {
			if x.Pos >= 0 && airflow.TIName(x.Key.TaskID, x.Key.MapIndex) == name {
				text = x.Text + " " + x.WakesBy
			}
		}
		return text != ""
	})
	for _, w := range want {
		if !strings.Contains(text, w) {
			r.Errorf("reason of %s: %q, want %q in it", name, text, w)
		}
	}
}

func TestPast(t *testing.T) {
	t.Parallel()
	day := func(d string) *oneRun { return shared.run(t, "past", "scheduled__2025-02-0"+d+"T00:00:00+00:00") }
	eventually(t, "three runs", func() bool { return len(shared.runs(t, "past")) == 3 })
	day("2").until("a", airflow.TIFailed)
	day("1").until("below_w", airflow.TIFailed)
	day("1").ends(failed, "a=success w=success below_w=failed")
	day("3").explains("a", "past")
	day("2").explains("w", "")
	if s := day("2").ti("w").State; s != airflow.TINone {
		t.Errorf("w ran although the downstream of its previous run failed: %s", s)
	}
	write(t, filepath.Join(scratch, "past-allowed"), "")
	clear := func(r *oneRun, task airflow.TaskID) {
		t.Helper()
		_, err := shared.tool.Engine.Clear(t.Context(), r.key, engine.ClearRequest{ClearOptions: scheduler.ClearOptions{
			Selection: scheduler.Selection{Tasks: []scheduler.TaskSelection{{TaskID: task}}}, ResetDagRun: true}})
		if err != nil {
			t.Fatal(err)
		}
		shared.notify(t, localapp.Notice{Runs: []storeKey{r.key}})
	}
	clear(day("1"), "below_w")
	clear(day("2"), "a")
	day("1").ends(success, "a=success w=success below_w=success/2")
	day("2").ends(success, "a=success/2 w=success below_w=success")
	day("3").ends(success, "a=success w=success below_w=success")
}

func TestFailFastAndRunTimeout(t *testing.T) {
	t.Parallel()
	t.Run("fail_fast", func(t *testing.T) {
		t.Parallel()
		shared.trigger(t, "fails_fast", nil).ends(failed, "quick=failed long=failed next=skipped")
	})
	t.Run("dagrun_timeout", func(t *testing.T) {
		t.Parallel()
		r := shared.trigger(t, "run_timeout", nil).ends(failed, "long=skipped next=skipped")
		gone(t, filepath.Join(scratch, "timeout.pid"))
		r.callbacks(`["dag", "run_timeout", null, "`+string(r.key.RunID)+`", "timed_out"]`, 1)
	})
}

// gone waits until the process of a pid file is dead.
func gone(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	eventually(t, "death of the task's process", func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid)
	})
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("the process lived for %s", d)
	}
}

func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

// callbacks waits until the file of the Python callbacks has n lines with a text.
func (r *oneRun) callbacks(text string, n int) {
	r.Helper()
	file := filepath.Join(scratch, "callbacks.txt")
	for end := time.Now().Add(10 * time.Second); countLines(file, text) < n && time.Now().Before(end); {
		<-time.After(20 * time.Millisecond)
	}
	if got := countLines(file, text); got != n {
		b, _ := os.ReadFile(file)
		r.Errorf("%d callbacks %s, want %d; all:\n%s%s", got, text, n, b, r.runLogs())
	}
}

func TestExecutorsAndUnknownOperators(t *testing.T) {
	t.Parallel()
	shared.trigger(t, "sequential", nil).ends(success, "a=success b=success")
	shared.trigger(t, "kubernetes", nil).ends(failed, "pod=failed/1 here=success").logs("pod", "KubernetesExecutor", "LocalExecutor")
	for _, name := range []string{"pod", "here"} {
		if ti := shared.run(t, "kubernetes", string(shared.runs(t, "kubernetes")[0].RunID)).ti(name); ti.StartDate == nil || ti.EndDate == nil || ti.EndDate.Before(*ti.StartDate) {
			t.Errorf("%s ended %v before it started %v", name, ti.EndDate, ti.StartDate)
		}
	}
	r := shared.trigger(t, "unknown_operator", nil).ends(failed, "glue=failed/1 acme=failed/1 fine=success")
	r.logs("glue", "GlueJobOperator").logs("acme", "RocketOperator")
	shared.trigger(t, "dates_of_tasks", nil).ends(success, "ever=success")
}

// runLogs returns the logs of the run's own callbacks.
func (r *oneRun) runLogs() string {
	all := ""
	files, _ := filepath.Glob(filepath.Join(r.s.tool.Logs.Root(), "dag_id="+string(r.key.DagID), "run_id="+string(r.key.RunID), "*.log"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all += f + "\n" + string(b)
	}
	return all
}
