package restapi

// registerAll registers every operation, subject by subject.
func registerAll(a *API) {
	registerSystem(a)
}
