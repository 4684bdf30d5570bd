package dagspec

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
)

const mappedFunctions = `
def f(x=0, y=0): return x
`

func loadMapped(t *testing.T, body string, strict bool) *Result {
	t.Helper()
	dir, opt, py := malformedDir(t)
	t.Cleanup(func() { py.Close() })
	write(t, dir, "fns.py", mappedFunctions)
	write(t, dir, "dag.yml", "d:\n  start_date: 2025-01-01\n"+body)
	opt.Strict = strict
	return Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
}

const mappedHead = `  tasks:
    - {task_id: src, decorator: airflow.sdk.task, python_callable: fns.f}
    - {task_id: two, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: echo, dependencies: [src]}
`

// TestMappedDocuments checks the serialized forms, and that the core reads them.
func TestMappedDocuments(t *testing.T) {
	res := loadMapped(t, `  task_groups:
    g: {expand: {x: +src, z: [1, 2]}}
    k: {parent_group_name: g, prefix_group_id: false, expand_kwargs: [{a: 1}, {a: two}]}
`+mappedHead+`    - {task_id: t, task_group_name: g, decorator: airflow.sdk.task, python_callable: fns.f, x: "+g['x']", dependencies: [two]}
    - {task_id: u, task_group_name: k, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: "x", env: {A: "+k['a']", X: "+g['x']"}}
    - {task_id: m, decorator: airflow.sdk.task, python_callable: fns.f, expand_kwargs: src.output, partial: {y: 1}, dependencies: [src]}
    - {task_id: l, operator: airflow.providers.standard.operators.bash.BashOperator, expand_kwargs: [{bash_command: a}, {bash_command: b, env: {}}]}
    - {task_id: j, decorator: airflow.sdk.task, python_callable: fns.f, expand: {x: {__zip__: [+src, {__concat__: [two.output, [1]]}], fillvalue: 0}}, dependencies: [two]}
`, false)
	if err := res.Err(); err != nil {
		t.Fatal(err)
	}
	d, text := res.DAGs[0].DAG, string(res.DAGs[0].Document)
	for _, want := range []string{
		`"is_mapped":true,"expand_input":{"type":"dict-of-lists","value":{"__type":"dict","__var":{"x":{"__type":"xcomref","__var":{"task_id":"src","key":"return_value"}},"z":[1,2]}}}`,
		`"is_mapped":true,"expand_input":{"type":"list-of-dicts","value":[{"__type":"dict","__var":{"a":1}},{"__type":"dict","__var":{"a":"two"}}]}`,
		`"op_kwargs_expand_input":{"type":"list-of-dicts","value":{"__type":"xcomref","__var":{"task_id":"src","key":"return_value"}}}`,
		`"expand_input":{"type":"list-of-dicts","value":[{"__type":"dict","__var":{"bash_command":"a"}},{"__type":"dict","__var":{"bash_command":"b","env":{"__type":"dict","__var":{}}}}]}`,
		`"x":{"__type":"xcomref","__var":{"type":"zip","args":[{"task_id":"src","key":"return_value"},{"type":"concat","args":[{"task_id":"two","key":"return_value"},[1]]}],"fillvalue":0}}`,
		`{"__type":"mapped_arg","__var":{"group":"g","key":"x"}}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if g := d.TaskGroup.Children[0].Group; !g.IsMapped || g.Expand == nil || len(g.Expand.Args) != 2 {
		t.Errorf("group: %+v", g)
	}
	for id, want := range map[airflow.TaskID]string{"g.t": "src two", "u": "src", "m": "src", "j": "src two"} {
		var up []string
		for _, u := range d.Task(id).Upstream {
			up = append(up, string(u))
		}
		if got := strings.Join(up, " "); got != want {
			t.Errorf("%s follows %q, want %q", id, got, want)
		}
	}
	for _, id := range []airflow.TaskID{"g.t", "u"} {
		if !d.Task(id).NeedsExpansion || d.Task(id).IsMapped {
			t.Errorf("%s is not of a mapped group: %+v", id, d.Task(id))
		}
	}
	var own int
	for _, w := range res.Warnings {
		if strings.Contains(w.Message, "dag-factory does not know it") {
			own++
		}
	}
	if own != 5 {
		t.Errorf("%d warnings of five extensions: %v", own, res.Warnings)
	}
}

func TestMappedProblems(t *testing.T) {
	const bash = "operator: airflow.providers.standard.operators.bash.BashOperator"
	for in, want := range map[string]string{
		`{task_id: a, ` + bash + `, expand_kwargs: 5}`:                                                                                            "expected XComArg or list[dict], not int",
		`{task_id: a, ` + bash + `, expand_kwargs: []}`:                                                                                           "no arguments to expand against",
		`{task_id: a, ` + bash + `, expand_kwargs: [x]}`:                                                                                          "not list[str]",
		`{task_id: a, ` + bash + `, expand_kwargs: [{bash_comand: x}]}`:                                                                           "did you mean bash_command?",
		`{task_id: a, ` + bash + `, bash_command: y, expand_kwargs: [{bash_command: x}]}`:                                                         "unmappable or already specified argument: bash_command",
		`{task_id: a, ` + bash + `, expand: {bash_command: [x]}, expand_kwargs: [{env: {}}]}`:                                                     "exclude each other",
		`{task_id: a, decorator: airflow.sdk.task, python_callable: fns.f, expand_kwargs: [{q: 1}]}`:                                              "unexpected keyword argument 'q'",
		`{task_id: a, decorator: airflow.sdk.task, python_callable: fns.f, expand_kwargs: "+src['k']", dependencies: [src]}`:                      "custom key 'k'",
		`{task_id: a, decorator: airflow.sdk.task, python_callable: fns.f, expand: {x: {__zip__: [[1], [2]]}}}`:                                   "needs the output of a task",
		`{task_id: a, decorator: airflow.sdk.task, python_callable: fns.f, expand: {x: {__zip__: [+nope]}}}`:                                      "'nope'",
		`{task_id: a, decorator: airflow.sdk.task, python_callable: fns.f, expand: {x: {__concat__: [+src], fillvalue: 1}}, dependencies: [src]}`: "'fillvalue'",
		`{task_id: a, task_group_name: g, ` + bash + `, bash_command: "+g['q']"}`:                                                                 "expands over no argument of that name",
		`{task_id: a, task_group_name: g, ` + bash + `, expand: {bash_command: [x]}}`:                                                             "operator expansion in an expanded task group",
		`{task_id: a, task_group_name: g, ` + bash + `, bash_command: x, trigger_rule: always}`:                                                   "not allowed with trigger rule 'always'",
		`{task_id: a, task_group_name: own, decorator: airflow.sdk.task, python_callable: fns.f}`:                                                 "its own task",
		`{task_id: a, task_group_name: bad, ` + bash + `, bash_command: x}`:                                                                       "unexpected type 'int'",
		`{task_id: a, task_group_name: none, ` + bash + `, bash_command: x}`:                                                                      "no arguments to expand against",
		`{task_id: a, task_group_name: outer, decorator: airflow.sdk.task, python_callable: fns.f}`:                                               "mapped by the group around both",
		`{task_id: a, task_group_name: g, decorator: airflow.sdk.task, python_callable: fns.f, x: "+both['x']"}`:                                  "no earlier task of that name",
	} {
		group := "{}"
		name := ""
		if i := strings.Index(in, "task_group_name: "); i >= 0 {
			name = in[i+len("task_group_name: "):]
			name = name[:strings.IndexByte(name, ',')]
		}
		switch name {
		case "g":
			group = "{expand: {x: +src}}"
		case "own":
			group = "{expand: {x: +a}}"
		case "bad":
			group = "{expand: {x: 5}}"
		case "none":
			group = "{expand: {}}"
		case "outer":
			group = "{expand: {x: [1]}}\n    inner: {parent_group_name: outer, expand: {y: +a}}"
		default:
			name = "unused"
		}
		res := loadMapped(t, "  task_groups:\n    "+name+": "+group+"\n"+mappedHead+"    - "+in+"\n", false)
		if err := res.Err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	for _, body := range []string{"  task_groups: {g: {expand: {x: [1]}}}\n" + mappedHead, mappedHead + "    - {task_id: a, " + bash + ", expand_kwargs: [{bash_command: x}]}\n"} {
		if res := loadMapped(t, body, true); res.Err() == nil || !strings.Contains(res.Err().Error(), "TypeError") && !strings.Contains(res.Err().Error(), "expand") {
			t.Errorf("strict mode accepts\n%s", body)
		}
	}
}
