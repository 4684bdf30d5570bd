package restapi

// registerOthers registers what does not belong to a DAG's runs.
func registerOthers(a *API) {
	registerVariables(a)
	registerConnections(a)
	registerPools(a)
	registerBackfills(a)
	registerAssets(a)
	registerImportErrors(a)
	registerEventLogs(a)
	registerConfig(a)
	registerJobs(a)
	registerHITL(a)
}
