// Package nearest proposes the known word that a mistyped one was meant to be.
package nearest

import "strings"

// Of returns the candidate closest to word, or "" where none is near: at most
// one edit for every three letters (but one at least), and never more than
// three. Of equally
// near candidates the first is taken.
func Of(word string, candidates []string) string {
	if word == "" || len(word) > 64 {
		return ""
	}
	word = strings.ToLower(word)
	best, bestDistance := "", min(3, max(1, len(word)/3))+1
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		if d := distance(word, strings.ToLower(c)); d < bestDistance && d < len(c) {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, replacements and exchanges of two
// neighbours.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			d := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				d++
			}
			d = min(d, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
