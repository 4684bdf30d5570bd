package restapi

// registerAll registers every operation, subject by subject.
func registerAll(a *API) {
	registerSystem(a)
	registerDags(a)
	registerVersions(a)
	registerRuns(a)
	registerTasks(a)
	registerTaskInstances(a)
	registerLogs(a)
	registerXComs(a)
	registerClear(a)
	registerPatchTI(a)
	registerBulkTI(a)
	registerWait(a)
	registerBulkRuns(a)
	registerOthers(a)
}
