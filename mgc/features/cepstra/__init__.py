"""Front ends made of the cepstrum: MFCC, their statistics, and linear predictive cepstra."""
