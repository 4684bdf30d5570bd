package dagspec

import "strings"

// tenacityClasses are the strategies of the tenacity package, a dependency of
// Airflow, that Gust's HttpOperator knows in retry_args.
var tenacityClasses = map[string]bool{
	"stop_after_attempt": true, "stop_after_delay": true, "stop_before_delay": true, "stop_never": true, "stop_any": true, "stop_all": true,
	"wait_none": true, "wait_fixed": true, "wait_random": true, "wait_incrementing": true, "wait_exponential": true, "wait_random_exponential": true,
	"wait_exponential_jitter": true, "wait_chain": true, "wait_combine": true,
	"retry_if_exception_type": true, "retry_if_not_exception_type": true, "retry_always": true, "retry_never": true,
}

// tenacityObject keeps a strategy as it is written: the operator reads it.
func (l *loader) tenacityObject(path string, args []value, kw *dict) value {
	if name := path[strings.LastIndexByte(path, '.')+1:]; !tenacityClasses[name] {
		l.warn("", "", pos{}, "%s is not known to Gust's operators: a task that has it in retry_args fails when it starts", path)
	}
	return newInstance(&class{path}, args, kw)
}
