"""The trade server of one account: what a broker refuses, fills, closes and charges.

Pure: prices, time and chance come from whoever plays it. The simulated terminal and the backtest
both trade at it, so that there is one broker, not two.
"""
