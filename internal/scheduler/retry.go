package scheduler

import (
	"crypto/sha1"
	"fmt"
	"math"
	"math/big"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// DefaultMaxRetryDelay is Airflow's default of [core] max_task_retry_delay.
const DefaultMaxRetryDelay = 24 * time.Hour

// RetryDelay is how long an instance waits after its failed try number
// tryNumber (1-based) before the next one. ceiling bounds a delay that grows
// exponentially ([core] max_task_retry_delay); 0 means the default, negative no
// delay at all, which is what Airflow makes of a setting of 0. The jitter of the exponential delay is
// Airflow's: a hash of what identifies the try, so that it can be computed again.
func RetryDelay(t *airflow.Task, dagID airflow.DagID, logicalDate *time.Time, tryNumber int, ceiling time.Duration) time.Duration {
	if ceiling == 0 {
		ceiling = DefaultMaxRetryDelay
	}
	factor := t.RetryExponentialFactor
	if factor == 0 || factor == 1 {
		return t.RetryDelay
	}
	base := math.Ceil(t.RetryDelay.Seconds() * math.Pow(factor, float64(tryNumber-1)))
	limit := math.Max(0, ceiling.Seconds())
	d := limit
	// Beyond the ceiling the jitter cannot matter, and huge powers overflow.
	if base < limit {
		b := int64(math.Max(1, base))
		sum := sha1.Sum([]byte(fmt.Sprintf("%s#%s#%s#%d", dagID, t.TaskID, pythonTime(logicalDate), tryNumber)))
		h := new(big.Int).SetBytes(sum[:])
		d = math.Min(float64(b+h.Mod(h, big.NewInt(b)).Int64()), limit)
	}
	delay := time.Duration(d * float64(time.Second))
	if t.MaxRetryDelay > 0 {
		delay = min(delay, t.MaxRetryDelay)
	}
	return delay
}

// pythonTime is str() of an aware UTC datetime, None for nil.
func pythonTime(t *time.Time) string {
	if t == nil {
		return "None"
	}
	u := t.UTC()
	if u.Nanosecond()/1000 != 0 {
		return u.Format("2006-01-02 15:04:05.000000") + "+00:00"
	}
	return u.Format("2006-01-02 15:04:05") + "+00:00"
}
