package scheduler

import "github.com/gustflow/gust/internal/airflow"

// UpstreamCounts is what a trigger rule looks at: how many of the relevant
// upstream instances ended how.
type UpstreamCounts struct {
	Success, Skipped, Failed, UpstreamFailed, Removed int
	// Upstream is how many instances there are to wait for.
	Upstream int
	// Of direct upstreams that are setups.
	Setups, SetupsSuccess, SetupsSkipped int
}

// Done is the number of finished upstream instances.
func (c UpstreamCounts) Done() int {
	return c.Success + c.Skipped + c.Failed + c.UpstreamFailed + c.Removed
}

// Verdict is the answer of a trigger rule.
type Verdict struct {
	// Set is the state the instance gets instead of running; TINone = it keeps its state.
	Set airflow.TIState
	// Met says that the rule lets the instance run.
	Met bool
}

// EvaluateRule applies a trigger rule to a task that has upstreams. mapIndex is
// that of the instance. Removed upstreams count as neither good nor bad for the
// rules that wait for all to end in one way.
func EvaluateRule(rule airflow.TriggerRule, c UpstreamCounts, mapIndex int) Verdict {
	bad := c.Failed + c.UpstreamFailed
	done := c.Done() >= c.Upstream
	var v Verdict
	set := func(when bool, s airflow.TIState) {
		if when && v.Set == airflow.TINone {
			v.Set = s
		}
	}
	switch rule {
	case airflow.RuleAlways:
		v.Met = true
	case airflow.RuleAllSuccess:
		set(bad > 0, airflow.TIUpstreamFailed)
		set(c.Skipped > 0, airflow.TISkipped)
		set(c.Removed > 0 && c.Success > 0 && mapIndex >= 0 && mapIndex >= c.Success, airflow.TIRemoved)
		v.Met = c.Upstream-c.Success-c.Removed <= 0
	case airflow.RuleAllFailed:
		set(c.Success > 0 || c.Skipped > 0, airflow.TISkipped)
		v.Met = c.Upstream-bad-c.Removed <= 0
	case airflow.RuleAllDone:
		v.Met = done
	case airflow.RuleAllDoneMinOneSuccess:
		set(c.Skipped > 0, airflow.TISkipped)
		set(done && c.Success == 0, airflow.TIUpstreamFailed)
		v.Met = done && c.Skipped == 0 && c.Success > 0
	case airflow.RuleAllSkipped:
		set(c.Success > 0 || bad > 0, airflow.TISkipped)
		v.Met = c.Upstream-c.Skipped <= 0
	case airflow.RuleOneSuccess:
		set(done && c.Done() == c.Skipped, airflow.TISkipped)
		set(done && c.Success == 0, airflow.TIUpstreamFailed)
		v.Met = c.Success > 0
	case airflow.RuleOneFailed:
		set(done && bad == 0, airflow.TISkipped)
		v.Met = bad > 0
	case airflow.RuleOneDone:
		set(done && c.Success+c.Failed == 0, airflow.TISkipped)
		v.Met = c.Success+c.Failed > 0
	case airflow.RuleNoneFailed:
		set(bad > 0, airflow.TIUpstreamFailed)
		v.Met = c.Upstream-c.Success-c.Skipped-c.Removed <= 0
	case airflow.RuleNoneFailedMinOneSuccess:
		set(bad > 0, airflow.TIUpstreamFailed)
		set(c.Skipped == c.Upstream, airflow.TISkipped)
		v.Met = c.Upstream-c.Success-c.Skipped-c.Removed <= 0
	case airflow.RuleNoneSkipped:
		set(c.Skipped > 0, airflow.TISkipped)
		v.Met = done && c.Skipped == 0
	case airflow.RuleAllDoneSetupSuccess:
		set(done && c.Setups > 0 && c.SetupsSkipped >= c.Setups, airflow.TISkipped)
		set(done && c.Setups > 0 && c.SetupsSuccess == 0, airflow.TIUpstreamFailed)
		v.Met = done && (c.Setups == 0 || c.SetupsSuccess > 0)
	}
	return v
}
