package worker

import (
	"encoding/json"
	"slices"

	"github.com/gustflow/gust/internal/airflow"
)

// Check refuses an answer that is none to the request: at least one of the
// options, one only unless it is multiple, and a value for exactly its params.
// input is a JSON object; nil is {}. All problems are InvalidErrors.
func (q *HITLRequest) Check(chosen []string, input json.RawMessage) error {
	for _, c := range chosen {
		if !slices.Contains(q.Options, c) {
			return airflow.Invalid("chosen_options", "%q is not one of the options %q", c, q.Options)
		}
	}
	switch {
	case len(chosen) == 0:
		return airflow.Invalid("chosen_options", "expected at least one of the options %q", q.Options)
	case len(chosen) > 1 && !q.Multiple:
		return airflow.Invalid("chosen_options", "expected one of the options %q, not %d", q.Options, len(chosen))
	}
	asked, err := members(q.Params)
	if err != nil {
		return airflow.Invalid("params", "expected a JSON object: %v", err)
	}
	given, err := members(input)
	if err != nil {
		return airflow.Invalid("params_input", "expected a JSON object: %v", err)
	}
	same := len(asked) == len(given)
	for k := range asked {
		_, ok := given[k]
		same = same && ok
	}
	if !same {
		return airflow.Invalid("params_input", "params_input %s does not match params %s", input, q.Params)
	}
	return nil
}

// DefaultInput is the input when nobody gave one: the params' own values.
func (q *HITLRequest) DefaultInput() json.RawMessage {
	ps, err := members(q.Params)
	if err != nil || len(ps) == 0 {
		return json.RawMessage("{}")
	}
	for k, raw := range ps {
		var p struct {
			Value  json.RawMessage `json:"value"`
			Schema json.RawMessage `json:"schema"`
		}
		if json.Unmarshal(raw, &p) == nil && p.Value != nil && p.Schema != nil {
			ps[k] = p.Value
		}
	}
	b, err := json.Marshal(ps)
	if err != nil {
		return json.RawMessage("{}")
	}
	return b
}

// members are those of a JSON object; nothing and null have none.
func members(raw json.RawMessage) (map[string]json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if len(raw) == 0 || string(raw) == "null" {
		return m, nil
	}
	err := json.Unmarshal(raw, &m)
	return m, err
}
