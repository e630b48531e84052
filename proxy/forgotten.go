package proxy

import "pgpoold/proxy/sqlscan"

// A function, or a DO, can deallocate what a server holds, and no command's tag
// tells. Where its text shows that, nothing that the server holds is believed
// from then on until it was sent again.

// forgetHeld follows a text that is being sent.
func (l *link) forgetHeld(found sqlscan.Finding) {
	if found&sqlscan.Forgets == 0 {
		return
	}
	for _, h := range l.shelf.m {
		h.doubt()
		if h.pending > 0 {
			h.batch, h.void = noBatch, h.pending
		}
	}
}
