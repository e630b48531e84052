package scram

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
	"golang.org/x/text/unicode/norm"
)

// saslPrep normalises a password with RFC 4013 the way PostgreSQL's
// saslprep.c does: the prohibited, unassigned and bidirectional rules look at
// the mapped characters before normalisation, and a password that breaks a
// rule, or is not UTF-8, is used as it is.
func saslPrep(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped := make([]rune, 0, len(password))
	for _, r := range password {
		if stringprep.TableC1_2.Contains(r) {
			mapped = append(mapped, ' ')
		} else if _, nothing := stringprep.TableB1.Map(r); !nothing {
			mapped = append(mapped, r)
		}
	}
	if len(mapped) == 0 || hasProhibited(mapped) || !validBidi(mapped) {
		return password
	}
	return norm.NFKC.String(string(mapped))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// hasProhibited covers RFC 4013 §2.3 and the unassigned code points of §2.5.
func hasProhibited(rs []rune) bool {
	for _, r := range rs {
		for _, table := range [...]stringprep.Set{
			stringprep.TableA1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2,
			stringprep.TableC3, stringprep.TableC4, stringprep.TableC5, stringprep.TableC6,
			stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
		} {
			if table.Contains(r) {
				return true
			}
		}
	}
	return false
}

// validBidi is RFC 3454 §6, rules 2 and 3; rule 1 is among the prohibited.
func validBidi(rs []rune) bool {
	rightToLeft, leftToRight := false, false
	for _, r := range rs {
		rightToLeft = rightToLeft || stringprep.TableD1.Contains(r)
		leftToRight = leftToRight || stringprep.TableD2.Contains(r)
	}
	if !rightToLeft {
		return true
	}
	return !leftToRight && stringprep.TableD1.Contains(rs[0]) && stringprep.TableD1.Contains(rs[len(rs)-1])
}
