package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/gustflow/gust/localstack/e2e/awscalls"
	"github.com/gustflow/gust/localstack/e2e/faultproxy"
)

// recorder notes what the functions ask of AWS, for the comparison with their roles that localstack/test.sh makes.
type recorder struct {
	mu      sync.Mutex
	seen    map[string]bool // questions to IAM, as JSON
	unknown []error
}

// asked is one question to IAM.
type asked struct {
	Function string `json:"function"`
	awscalls.Request
}

// record implements the proxy's watch.
func (r *recorder) record(c faultproxy.Call) {
	rs, err := awscalls.Requests(awscalls.Place{Account: account, Region: region}, awscalls.Call{
		Service: c.Service, Method: c.Method, Target: c.Action, Path: c.Path, Query: c.Query, Header: c.Header, Body: c.Body,
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if len(r.unknown) < 10 {
			r.unknown = append(r.unknown, fmt.Errorf("function %s: %w", c.Function, err))
		}
		return
	}
	for _, q := range rs {
		b, err := json.Marshal(asked{c.Function, q})
		if err != nil {
			r.unknown = append(r.unknown, err)
			continue
		}
		r.seen[string(b)] = true
	}
}

// write writes the questions, one a line and in order. Calls that it could not read are an error.
func (r *recorder) write(file string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []byte
	for _, line := range slices.Sorted(maps.Keys(r.seen)) {
		out = append(append(out, line...), '\n')
	}
	return errors.Join(append(slices.Clone(r.unknown), os.WriteFile(file, out, 0o644))...)
}
