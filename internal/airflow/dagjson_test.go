package airflow

import (
	"strings"
	"testing"
	"time"
)

const plainDoc = `{"__version":3,"dag":{"dag_id":"ex1","fileloc":"/x/y.py","timezone":"UTC","catchup":false,"start_date":1767225600.5,
 "tags":["b","a"],"timetable":{"__type":"airflow.timetables.trigger.CronTriggerTimetable","__var":{"expression":"0 3 * * *"}},
 "params":[["n",{"default":3,"schema":{"__type":"dict","__var":{"type":"integer"}},"source":null}]],
 "task_group":{"_group_id":null,"children":{"z":["operator","z"],"g":["taskgroup",{"_group_id":"g","children":{"g.a":["operator","g.a"]}}]}},
 "tasks":[{"__type":"operator","__var":{"task_id":"z","task_type":"BashOperator","_task_module":"m.bash","retries":2,"retry_delay":45.0,"retry_exponential_backoff":true,"downstream_task_ids":["g.a"]}},
  {"__type":"operator","__var":{"task_id":"g.a","_is_mapped":true,"_expand_input_attr":"expand_input",
   "expand_input":{"type":"dict-of-lists","value":{"__type":"dict","__var":{"y":[1,2],"x":{"__type":"xcomref","__var":{"type":"zip","args":[{"task_id":"z","key":"return_value"},[1,2,3]]}}}}},
   "partial_kwargs":{"retry_delay":{"__type":"timedelta","__var":7.0},"pool":"p"}}}]}}`

func TestParseDAG(t *testing.T) {
	d, err := ParseDAG([]byte(plainDoc))
	if err != nil {
		t.Fatal(err)
	}
	z, a := d.Task("z"), d.Task("g.a")
	if z.RetryDelay != 45*time.Second || z.RetryExponentialFactor != 2 || z.ClassPath() != "m.bash.BashOperator" {
		t.Errorf("task z: %+v", z)
	}
	if a.RetryDelay != 7*time.Second || a.Pool != "p" || a.Group != "g" || a.Upstream[0] != "z" {
		t.Errorf("task g.a: %+v", a)
	}
	if got := a.Expand.Args; got[0].Name != "y" || got[0].Length != 2 || got[1].XCom.Type != XComZip || got[1].XCom.Args[1].Length != 3 {
		t.Errorf("expand arguments must keep their order: %+v", got)
	}
	if d.StartDate.Nanosecond() != 500e6 || d.Params[0].Name != "n" || string(d.Params[0].Schema) != `{"type":"integer"}` {
		t.Errorf("dag: %v %+v", d.StartDate, d.Params)
	}
}

func TestParseDAGReportsAllProblems(t *testing.T) {
	_, err := ParseDAG([]byte(`{"__version":3,"dag":{"dag_id":"bad id","tasks":[
	 {"__type":"operator","__var":{"task_id":"a","trigger_rule":"sometimes","downstream_task_ids":["b"]}},
	 {"__type":"operator","__var":{"task_id":"a"}}]}}`))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"bad id", "sometimes", "used twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %q: %v", want, err)
		}
	}
	_, err = ParseDAG([]byte(`{"__version":3,"dag":{"dag_id":"c","tasks":[
	 {"__type":"operator","__var":{"task_id":"a","downstream_task_ids":["b"]}},{"__type":"operator","__var":{"task_id":"b","downstream_task_ids":["a","x"]}}]}}`))
	if err == nil || !strings.Contains(err.Error(), "a >> b >> a") || !strings.Contains(err.Error(), `"x" does not exist`) {
		t.Errorf("cycle and dangling edge: %v", err)
	}
	if _, err := ParseDAG([]byte(`{"__version":2,"dag":{}}`)); err == nil || !strings.Contains(err.Error(), "only version 3") {
		t.Errorf("version 2: %v", err)
	}
}

func TestCanonicalDAG(t *testing.T) {
	c1, h1, err := CanonicalDAG([]byte(plainDoc))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(strings.Replace(plainDoc, `"/x/y.py"`, `"/elsewhere/y.py"`, 1), `["b","a"]`, `["a","b"]`, 1)
	if _, h2, _ := CanonicalDAG([]byte(other)); h1 != h2 {
		t.Error("the hash depends on fileloc or on the order of tags")
	}
	swapped := strings.Replace(plainDoc, `"y":[1,2],`, ``, 1)
	swapped = strings.Replace(swapped, `[1,2,3]]}}}}}`, `[1,2,3]]}},"y":[1,2]}}}`, 1)
	if _, err := ParseDAG([]byte(swapped)); err != nil {
		t.Fatalf("swapped document: %v", err)
	}
	if _, h3, _ := CanonicalDAG([]byte(swapped)); h1 == h3 {
		t.Error("the order of expand arguments decides map indexes, but the hash ignores it")
	}
	again, h4, err := CanonicalDAG(c1)
	if err != nil || h4 != h1 || string(again) != string(c1) {
		t.Errorf("canonical form is not a fixed point: %v", err)
	}
	if d, err := ParseDAG(c1); err != nil || d.TaskGroup.Children[0].TaskID != "z" {
		t.Errorf("canonical form loses the order of children: %v", err)
	}
}
