package taskrunner

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/jinja"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/serde"
)

// mergeParams returns the task's params: those of the DAG, overridden by those
// of the task, overridden by the run's conf, each checked against its schema.
func mergeParams(dag *airflow.DAG, task *airflow.Task, conf json.RawMessage) (*jinja.Dict, error) {
	out := jinja.NewDict()
	if len(dag.Params) == 0 && (task == nil || len(task.Params) == 0) {
		return out, nil
	}
	var order []string
	merged := map[string]airflow.Param{}
	add := func(ps []airflow.Param) {
		for _, p := range ps {
			if _, dup := merged[p.Name]; !dup {
				order = append(order, p.Name)
			}
			merged[p.Name] = p
		}
	}
	add(dag.Params)
	if task != nil {
		add(task.Params)
	}
	var over map[string]json.RawMessage
	if len(conf) > 0 && string(conf) != "null" {
		if err := json.Unmarshal(conf, &over); err != nil {
			return nil, airflow.Invalid("conf", "the run's conf is not a JSON object: %v", err)
		}
	}
	var problems []airflow.Problem
	for _, name := range order {
		p := merged[name]
		raw := p.Default
		if v, ok := over[name]; ok {
			raw = v
		}
		if raw == nil {
			problems = append(problems, airflow.Problem{Field: "params." + name, Class: "ParamValidationError", Message: "has no default and the run's conf gives no value: trigger the run with it"})
			continue
		}
		v, err := serde.FromDocument(raw)
		if err != nil {
			problems = append(problems, airflow.Problem{Field: "params." + name, Message: err.Error()})
			continue
		}
		if err := checkSchema(p.Schema, v); err != nil {
			problems = append(problems, airflow.Problem{Field: "params." + name, Class: "ParamValidationError", Message: err.Error()})
			continue
		}
		out.Set(name, v)
	}
	if len(problems) > 0 {
		return nil, &airflow.InvalidError{Problems: problems}
	}
	return out, nil
}

// contextParams are the params in a task's or run's context.
func contextParams(tc *worker.TaskContext) (*jinja.Dict, error) {
	conf := tc.Run.Conf
	if tc.IgnoreConfInParams {
		conf = nil
	}
	return mergeParams(tc.DAG, tc.Task, conf)
}

// checkSchema validates a value against a JSON Schema (draft 2020-12, formats asserted).
func checkSchema(schema json.RawMessage, v jinja.Value) error {
	text := strings.TrimSpace(string(schema))
	if text == "" || text == "null" || text == "{}" {
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(plainSchema(schema)))
	if err != nil {
		return fmt.Errorf("its schema is no JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	if err := c.AddResource("param.json", doc); err != nil {
		return fmt.Errorf("its schema is invalid: %w", err)
	}
	s, err := c.Compile("param.json")
	if err != nil {
		return fmt.Errorf("its schema is invalid: %w", err)
	}
	b, err := json.Marshal(serde.Plain(v))
	if err != nil {
		return err
	}
	inst, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		return err
	}
	err = s.Validate(inst)
	ve, ok := err.(*jsonschema.ValidationError)
	if !ok {
		return err
	}
	var lines []string
	collect(ve, &lines)
	sort.Strings(lines)
	return fmt.Errorf("%s does not fit its schema: %s", b, strings.Join(lines, "; "))
}

// plainSchema removes the document's type tags from inside a schema.
func plainSchema(schema json.RawMessage) string {
	v, err := serde.FromDocument(schema)
	if err != nil {
		return string(schema)
	}
	b, err := json.Marshal(serde.Plain(v))
	if err != nil {
		return string(schema)
	}
	return string(b)
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a param's schema may not refer to %s", url)
}

var english = message.NewPrinter(language.English)

func collect(e *jsonschema.ValidationError, out *[]string) {
	if len(e.Causes) > 0 {
		for _, c := range e.Causes {
			collect(c, out)
		}
		return
	}
	if _, group := e.ErrorKind.(*kind.Group); group {
		return
	}
	at := strings.Join(e.InstanceLocation, ".")
	if at != "" {
		at += ": "
	}
	*out = append(*out, at+e.ErrorKind.LocalizedString(english))
}
