package connection

import (
	"context"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// The prefixes of environment variables that hold connections and variables.
const (
	ConnPrefix = "AIRFLOW_CONN_"
	VarPrefix  = "AIRFLOW_VAR_"
)

// Env looks connections and variables up in environment variables, which come
// before the store: AIRFLOW_CONN_<CONN_ID> (a URI, or JSON) and AIRFLOW_VAR_<KEY>.
type Env struct {
	// Lookup reads an environment variable.
	Lookup func(name string) (string, bool)
}

// Connection returns the connection of that id; ok is false if the environment
// has none. An error means that its text cannot be read.
func (e Env) Connection(_ context.Context, id string) (c airflow.Connection, ok bool, err error) {
	text, ok := e.Lookup(ConnPrefix + strings.ToUpper(id))
	if !ok || text == "" {
		return airflow.Connection{}, false, nil
	}
	c, err = Parse(id, text)
	return c, err == nil, err
}

// Variable returns the variable of that key; ok is false if the environment has
// none. A variable may be the empty text.
func (e Env) Variable(_ context.Context, key string) (v airflow.Variable, ok bool, err error) {
	text, ok := e.Lookup(VarPrefix + strings.ToUpper(key))
	if !ok {
		return airflow.Variable{}, false, nil
	}
	return airflow.Variable{Key: key, Value: text}, true, nil
}

// Names returns the names, without prefix and sorted, of the environment
// variables ("NAME=value") that start with prefix.
func Names(environ []string, prefix string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			out = append(out, rest)
		}
	}
	sort.Strings(out)
	return out
}
