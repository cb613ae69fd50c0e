"""Workers in processes, over any wire: matching, sums, centers and liveness. Folders beside it carry bytes."""
