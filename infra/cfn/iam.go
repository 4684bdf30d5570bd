package cfn

import (
	"fmt"
	"sort"
	"strings"
)

// Statement is one statement of a policy.
type Statement struct {
	Sid, Effect        string
	Actions, Resources []string
	// Conditions: operator -> key -> values.
	Conditions map[string]map[string][]string
	// Principals are empty in policies of roles.
	Principals []string
}

// Role is an IAM role with all that its policies say.
type Role struct {
	ID         string // logical id
	Trusts     []string
	Statements []Statement
	// Managed are the ARNs of attached policies, whose text is not in the template.
	Managed []string
}

// Roles returns the roles of a template by logical id, with the inline policies
// and the policy resources that name them.
func (t *Template) Roles() map[string]*Role {
	roles := map[string]*Role{}
	for id, r := range t.Resources {
		if r.Type != "AWS::IAM::Role" {
			continue
		}
		role := &Role{ID: id, Managed: list(r.Get("ManagedPolicyArns"))}
		for _, s := range Statements(r.Get("AssumeRolePolicyDocument")) {
			role.Trusts = append(role.Trusts, s.Principals...)
		}
		policies, _ := r.Get("Policies").([]any)
		for _, p := range policies {
			role.Statements = append(role.Statements, Statements(p.(map[string]any)["PolicyDocument"])...)
		}
		roles[id] = role
	}
	for _, r := range append(t.OfType("AWS::IAM::Policy"), t.OfType("AWS::IAM::ManagedPolicy")...) {
		for _, ref := range list(r.Get("Roles")) {
			if role := roles[strings.Trim(ref, "<>")]; role != nil {
				role.Statements = append(role.Statements, Statements(r.Get("PolicyDocument"))...)
			}
		}
	}
	return roles
}

// RoleOf returns the role that a Lambda function of this name runs in.
func (t *Template) RoleOf(function string) (*Role, error) {
	for _, f := range t.OfType("AWS::Lambda::Function") {
		if f.Text("FunctionName") == function {
			id := strings.TrimSuffix(strings.Trim(f.Text("Role"), "<>"), ".Arn")
			if r := t.Roles()[id]; r != nil {
				return r, nil
			}
			return nil, fmt.Errorf("function %s: no role %q", function, id)
		}
	}
	return nil, fmt.Errorf("no function %s", function)
}

// Statements reads a policy document.
func Statements(document any) []Statement {
	d, _ := document.(map[string]any)
	var raw []any
	switch s := d["Statement"].(type) {
	case []any:
		raw = s
	case map[string]any:
		raw = []any{s}
	}
	var out []Statement
	for _, r := range raw {
		m := r.(map[string]any)
		s := Statement{Actions: list(m["Action"]), Resources: list(m["Resource"]), Conditions: map[string]map[string][]string{}}
		s.Sid, _ = m["Sid"].(string)
		s.Effect, _ = m["Effect"].(string)
		switch p := m["Principal"].(type) {
		case string:
			s.Principals = []string{p}
		case map[string]any:
			for kind, who := range p {
				for _, w := range list(who) {
					s.Principals = append(s.Principals, kind+":"+w)
				}
			}
			sort.Strings(s.Principals)
		}
		conditions, _ := m["Condition"].(map[string]any)
		for op, keys := range conditions {
			s.Conditions[op] = map[string][]string{}
			for key, values := range keys.(map[string]any) {
				s.Conditions[op][key] = list(values)
			}
		}
		out = append(out, s)
	}
	return out
}

// Request is one call, as IAM sees it.
type Request struct {
	Action   string // dynamodb:GetItem
	Resource string // ARN
	// Context holds the condition keys of the request; an absent key is not set.
	Context map[string][]string
}

// Allows reports whether the role's own policies allow a request: one statement
// allows and none denies. An operator that is not known is an error, so that a
// new kind of condition cannot pass unseen.
func (r *Role) Allows(q Request) (bool, error) {
	allowed := false
	for _, s := range r.Statements {
		if !anyMatch(s.Actions, q.Action, true) || !anyMatch(s.Resources, q.Resource, false) {
			continue
		}
		ok, err := s.holds(q.Context)
		if err != nil {
			return false, fmt.Errorf("role %s, statement %s: %w", r.ID, s.Sid, err)
		}
		if !ok {
			continue
		}
		if s.Effect == "Deny" {
			return false, nil
		}
		allowed = true
	}
	return allowed, nil
}

func (s Statement) holds(context map[string][]string) (bool, error) {
	for op, keys := range s.Conditions {
		for key, want := range keys {
			got, set := context[key]
			ok := false
			switch op {
			case "StringEquals", "ArnEquals":
				ok = set && len(got) == 1 && contains(want, got[0])
			case "StringLike", "ArnLike":
				ok = set && len(got) == 1 && anyMatch(want, got[0], false)
			case "ForAllValues:StringLike":
				ok = true // also for no value at all, as in AWS
				for _, g := range got {
					ok = ok && anyMatch(want, g, false)
				}
			case "Null":
				ok = (want[0] == "true") != set
			default:
				return false, fmt.Errorf("condition operator %s is not known here", op)
			}
			if !ok {
				return false, nil
			}
		}
	}
	return true, nil
}

func contains(values []string, v string) bool {
	for _, x := range values {
		if x == v {
			return true
		}
	}
	return false
}

func anyMatch(patterns []string, s string, fold bool) bool {
	for _, p := range patterns {
		if fold {
			p, s = strings.ToLower(p), strings.ToLower(s)
		}
		if Match(p, s) {
			return true
		}
	}
	return false
}

// Match reports whether s matches an IAM pattern: '*' is any text, '?' any
// character.
func Match(pattern, s string) bool {
	// The last star seen, and where it is tried next.
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
