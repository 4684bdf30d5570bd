package scheduler

import (
	"fmt"
	"testing"

	"github.com/gustflow/gust/internal/airflow"
)

// ruleOracle answers a trigger rule by looking at the list of upstream states in
// the words of the documentation, without counting.
func ruleOracle(rule airflow.TriggerRule, up []airflow.TIState) (set airflow.TIState, met bool) {
	some := func(ok func(airflow.TIState) bool) bool {
		for _, s := range up {
			if ok(s) {
				return true
			}
		}
		return false
	}
	is := func(states ...airflow.TIState) func(airflow.TIState) bool {
		return func(s airflow.TIState) bool {
			for _, x := range states {
				if s == x {
					return true
				}
			}
			return false
		}
	}
	not := func(f func(airflow.TIState) bool) func(airflow.TIState) bool {
		return func(s airflow.TIState) bool { return !f(s) }
	}
	every := func(ok func(airflow.TIState) bool) bool { return !some(not(ok)) }
	const (
		S, K, F, U, R = airflow.TISuccess, airflow.TISkipped, airflow.TIFailed, airflow.TIUpstreamFailed, airflow.TIRemoved
		none          = airflow.TINone
	)
	done := every(airflow.TIState.Finished)
	bad := some(is(F, U))
	pick := func(cases ...any) airflow.TIState {
		for i := 0; i < len(cases); i += 2 {
			if cases[i].(bool) {
				return cases[i+1].(airflow.TIState)
			}
		}
		return none
	}
	switch rule {
	case airflow.RuleAllSuccess:
		return pick(bad, U, some(is(K)), K), every(is(S, R))
	case airflow.RuleAllFailed:
		return pick(some(is(S, K)), K), every(is(F, U, R))
	case airflow.RuleAllDone:
		return none, done
	case airflow.RuleAllDoneMinOneSuccess:
		return pick(some(is(K)), K, done && !some(is(S)), U), done && some(is(S)) && !some(is(K))
	case airflow.RuleAllDoneSetupSuccess: // without setups upstream
		return none, done
	case airflow.RuleAllSkipped:
		return pick(some(is(S, F, U)), K), every(is(K))
	case airflow.RuleAlways:
		return none, true
	case airflow.RuleNoneFailed:
		return pick(bad, U), every(is(S, K, R))
	case airflow.RuleNoneFailedMinOneSuccess:
		return pick(bad, U, every(is(K)), K), every(is(S, K, R))
	case airflow.RuleNoneSkipped:
		return pick(some(is(K)), K), done && !some(is(K))
	case airflow.RuleOneDone:
		return pick(done && !some(is(S, F)), K), some(is(S, F))
	case airflow.RuleOneFailed:
		return pick(done && !bad, K), bad
	case airflow.RuleOneSuccess:
		return pick(done && every(is(K)), K, done && !some(is(S)), U), some(is(S))
	}
	panic(rule)
}

// TestTriggerRulesAgainstOracle compares every rule with the oracle on every list
// of up to four upstream states.
func TestTriggerRulesAgainstOracle(t *testing.T) {
	alphabet := []airflow.TIState{airflow.TINone, airflow.TISuccess, airflow.TISkipped, airflow.TIFailed, airflow.TIUpstreamFailed, airflow.TIRemoved}
	var lists [][]airflow.TIState
	var grow func(prefix []airflow.TIState, from int)
	grow = func(prefix []airflow.TIState, from int) {
		if len(prefix) > 0 {
			lists = append(lists, append([]airflow.TIState(nil), prefix...))
		}
		if len(prefix) == 4 {
			return
		}
		for i := from; i < len(alphabet); i++ {
			grow(append(prefix, alphabet[i]), i)
		}
	}
	grow(nil, 0)
	if len(lists) != 209 {
		t.Fatalf("%d lists", len(lists))
	}
	for _, rule := range airflow.TriggerRules {
		for _, up := range lists {
			c := UpstreamCounts{Upstream: len(up)}
			for _, s := range up {
				var one stateCounts
				one[s] = 1
				c.add(&one, false)
			}
			set, met := ruleOracle(rule, up)
			if got := EvaluateRule(rule, c, airflow.Unmapped); got.Set != set || got.Met != met {
				t.Errorf("%s over %s: %+v, want set %s, met %t", rule, fmt.Sprint(up), got, set, met)
			}
		}
	}
}
