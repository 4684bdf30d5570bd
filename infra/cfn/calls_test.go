package cfn

import (
	"bufio"
	"encoding/json"
	"os"
	"sort"
	"strings"
	"testing"
)

// gaps are calls that AWS would deny and that are still made: they are shown, not failed. Take the entry out with the call.
var gaps = []struct{ function, action, key, why string }{}

// gap returns why a call is a known gap, "" if it is none.
func gap(function, action string, keys []string) string {
	for _, g := range gaps {
		if strings.Contains(function, "-"+g.function) && action == g.action && len(keys) == 1 && strings.HasPrefix(keys[0], g.key) {
			return g.why
		}
	}
	return ""
}

// TestCallsOfTheDeployment asks the roles of a deployed template for every call that its functions made in the
// end-to-end suite on LocalStack, which enforces no rights itself. `make test-localstack` runs it.
func TestCallsOfTheDeployment(t *testing.T) {
	calls, template := os.Getenv("GUST_CALLS"), os.Getenv("GUST_TEMPLATE")
	if calls == "" || template == "" {
		t.Skip("needs the calls and the template of a deployment: make test-localstack")
	}
	tmpl, err := Read(template)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(calls)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	made := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var q struct {
			Function, Action, Resource string
			Context                    map[string][]string
		}
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			t.Fatal(err)
		}
		role, err := tmpl.RoleOf(q.Function)
		if err != nil {
			t.Error(err)
			continue
		}
		made[q.Function]++
		ok, err := role.Allows(Request{Action: q.Action, Resource: q.Resource, Context: q.Context})
		if !ok && q.Action == "secretsmanager:GetSecretValue" {
			// AWS chooses the end of a secret's ARN, so the template refers to the data stack for it.
			for _, s := range role.Statements {
				for _, r := range s.Resources {
					if strings.HasPrefix(r, "<import:") && strings.Contains(q.Resource, "-keys-") {
						ok, err = role.Allows(Request{Action: q.Action, Resource: r})
					}
				}
			}
		}
		if err != nil {
			t.Error(err)
		} else if why := gap(q.Function, q.Action, q.Context["dynamodb:LeadingKeys"]); !ok && why != "" {
			t.Logf("KNOWN GAP, AWS would deny: %s\n\t%s", lines.Text(), why)
		} else if !ok {
			t.Errorf("AWS would deny: %s", lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range made {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Logf("%s: %d different questions to IAM", name, made[name])
	}
	if len(names) < 4 {
		t.Errorf("calls of %v only: the functions did not use the proxy that records them", names)
	}
}
