// Package idlecost computes from synthesised templates what a deployment costs in
// a month in which nothing runs. No free tier is assumed anywhere. A resource of a
// type that nobody has priced is an error, so that nothing is free by oversight.
package idlecost
