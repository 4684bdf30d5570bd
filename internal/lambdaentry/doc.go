// Package lambdaentry is between AWS's events and our calls: it starts what a
// Lambda function needs and turns each event into calls of the packages that know
// nothing of Lambda. Every folder of functions/ is a main that calls one of its
// functions.
package lambdaentry
